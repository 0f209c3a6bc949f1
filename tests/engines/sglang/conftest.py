"""SGLang servers that tests share. Each takes the better part of a minute to start, so there is one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file
from sglang_alone import Alone, observe
from sglang_live import ARENA_BYTES, SGLang

from mmplane.models.tiny import build_tiny, random_weights

OPTIONS = {1: (), 2: ("--chunked-prefill-size", "256")}
"""By number of ranks. A photograph is 345 tokens, so with two ranks the prompts of most are prefilled in pieces."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` with random weights: what is compared must differ from picture to picture."""
    folder = tmp_path_factory.mktemp("models")
    save_file(random_weights(), folder / "random.safetensors", metadata={"format": "pt"})
    build_tiny(folder / "tiny", weights=folder / "random.safetensors")
    return folder / "tiny"


@pytest.fixture(scope="session", params=[1, 2], ids=["tp1", "tp2"])
def tp(request: pytest.FixtureRequest) -> int:
    """How many ranks. pytest runs all tests of the one before those of the other."""
    ranks: int = request.param
    return ranks


@pytest.fixture(scope="session")
def alone(folder: Path, tp: int, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """What SGLang does without the plugin: seen once, before the other server starts."""
    log = tmp_path_factory.mktemp("alone") / f"tp{tp}.log"
    return observe(SGLang(folder, *OPTIONS[tp], tp=tp, plugins="faults", arena_bytes=ARENA_BYTES, log=log))


@pytest.fixture(scope="session")
def running(
    folder: Path, tp: int, alone: Alone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], SGLang]]:
    """The server with the plugin; another one if a test has ended it."""
    log = tmp_path_factory.mktemp("plugin") / f"tp{tp}.log"
    servers: list[SGLang] = []

    def get() -> SGLang:
        if not servers or servers[-1].has_ended():
            servers.append(
                SGLang(folder, *OPTIONS[tp], tp=tp, plugins="mmplane,faults", arena_bytes=ARENA_BYTES, log=log)
            )
        return servers[-1]

    yield get
    for server in servers:
        server.kill()


@pytest.fixture
def server(running: Callable[[], SGLang]) -> SGLang:
    """A live SGLang server with the plugin."""
    return running()
