"""vLLM servers that tests share. Each takes half a minute to start, so there is one at a time.

With MMPLANE_FULL=1 (`make test-vllm FULL=1`) the rarest run too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vllm_live import PEERS, VENV, VLLM, serving
from vllm_work import Answer, answers

OPTIONS = {1: (), 2: ("--max-num-batched-tokens", "1024")}
"""By number of ranks. The second prefills pictures in pieces."""
ARENA_BYTES = {1: 16 * 2**20, 2: 256 * 2**20}
"""The first has no room for what the requests need in all, nor for the largest picture."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: only with FULL=1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("MMPLANE_FULL") != "1":
        rare = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=rare)
        items[:] = [item for item in items if item not in rare]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, which suits vLLM on a CPU."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    command = [str(VENV / "bin" / "python"), str(PEERS / "tiny_model.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session", params=[1, 2], ids=["tp1", "tp2"])
def tp(request: pytest.FixtureRequest) -> int:
    """How many ranks. pytest runs all tests of the one before those of the other."""
    ranks: int = request.param
    return ranks


@pytest.fixture(scope="session")
def plain(folder: Path, tp: int, tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """What vLLM answers without the plugin: seen once, before the other server starts."""
    log = tmp_path_factory.mktemp("plain") / f"tp{tp}.log"
    with serving(folder, *OPTIONS[tp], tp=tp, log=log) as server:
        return answers(server)


@pytest.fixture(scope="session")
def running(
    folder: Path, tp: int, plain: list[Answer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], VLLM]]:
    """The server with the plugin; another one if a test has ended it."""
    log = tmp_path_factory.mktemp("plugin") / f"tp{tp}.log"
    servers: list[VLLM] = []

    def get() -> VLLM:
        if not servers or servers[-1].has_ended():
            servers.append(VLLM(folder, *OPTIONS[tp], tp=tp, modes="carry", arena_bytes=ARENA_BYTES[tp], log=log))
        return servers[-1]

    yield get
    for server in servers:
        server.kill()


@pytest.fixture
def server(running: Callable[[], VLLM]) -> VLLM:
    """A live server with the plugin."""
    return running()
