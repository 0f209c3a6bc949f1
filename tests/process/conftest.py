"""Servers that tests share: one per number of ranks, started when first needed, ended with the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from live import RUNNING, Live, network_here, serving
from preloaded import ADDRESS, PRELOADED, TEMPLATE, Preloaded
from tests.chaos.holds import Holds

from render_requests import MODEL_ID

if TYPE_CHECKING:
    from conformance import Right
    from reference import Reference

# torch is imported where it is needed: the process that only hands out tests to others needs none.

SHARED_FLAGS = (
    *("--fault-injection", "on", "--cache-bytes", str(2**20), "--running-max", "16"),
    *("--kv-bytes", str(144 * 2**20), "--model-id", MODEL_ID),
    *("--accept-embeddings", "on", "--encoding", "float32", "--served-model-name", "small"),
    *("--root-path", "/behind/a-proxy", "--allow-origin", "https://chat.test"),
)
"""Requests may carry faults, four pictures of 112 x 84 fill a rank's cache, and one request can take all seats. Of keys
and values sixteen answers of 1,000 tokens fit on one rank, and sixteen of 7,000 do not fit on four."""

LONGEST_FIRST = (
    *("test_deliveries", "test_delivery_faults", "test_chaos", "test_death", "test_machines", "test_nodes"),
    *("test_chaos_mutants",),
    *("test_reading", "test_switching", "test_corpus", "test_delivery_mutants", "test_health", "test_bench"),
    *("test_stages", "test_clips", "test_freezing", "test_overload"),
)
"""Files that take longest. One that began last would be waited for, with the other processes idle."""


def pytest_configure(config: pytest.Config) -> None:
    """Start what all processes of pytest-xdist fork their servers from: it imports while they collect."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[ADDRESS] = TEMPLATE.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: `--no-loadscope-reorder` keeps that order."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def preloaded() -> Iterator[None]:
    """The copy of the template that most servers are forked from; it is made with the first."""
    yield
    PRELOADED.close()


@pytest.fixture(scope="session")
def holds() -> Iterator[Holds]:
    """Stages at which a process of a server from `holding` can be held."""
    holds = Holds()
    yield holds
    holds.close()


@pytest.fixture(scope="session")
def holding(holds: Holds) -> Iterator[Preloaded]:
    """What servers are forked from whose processes can be held."""
    preloaded = Preloaded(holds.environment)
    yield preloaded
    preloaded.close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test every running server comes to rest: nothing in flight, leased, written or reserved.

    Servers in another network cannot be asked from here: the test that entered this one sends them nothing.
    """
    yield
    for live in RUNNING:
        if live.network == network_here():
            live.settle()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` with random weights: what these tests compare must differ from picture to picture."""
    from safetensors.torch import save_file

    from mmplane.models.tiny import build_tiny, random_weights

    folder = tmp_path_factory.mktemp("models")
    save_file(random_weights(), folder / "random.safetensors", metadata={"format": "pt"})
    build_tiny(folder / "tiny", weights=folder / "random.safetensors")
    return folder / "tiny"


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` as it ships: it reads numbers."""
    from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(folder, weights=SHIPPED_WEIGHTS)
    return folder


@pytest.fixture(scope="session")
def reference(tiny_folder: Path) -> Reference:
    from reference import Reference

    return Reference(tiny_folder)


@pytest.fixture(scope="session")
def server_of(tiny_folder: Path) -> Iterator[Callable[[int], Live]]:
    """`server_of(tp)`: the session's server with that many ranks."""
    servers: dict[int, Live] = {}
    with ExitStack() as stack:

        def get(tp: int) -> Live:
            if tp not in servers:
                servers[tp] = stack.enter_context(serving(tiny_folder, *SHARED_FLAGS, tp=tp))
            return servers[tp]

        yield get


@pytest.fixture
def server(server_of: Callable[[int], Live]) -> Live:
    """The session's server with two ranks. Tests that harm it start their own."""
    return server_of(2)


@pytest.fixture(scope="session")
def right(reference: Reference) -> dict[str, Right]:
    """The right answers to the conformance suite's questions."""
    from conformance import right_answers

    return right_answers(reference)
