from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from sidecar_rig import Rig

from mmplane import Client


@pytest.fixture
def rig_of(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Rigs behind sockets of their own, or, once it has been closed, behind a former one's `path`."""
    numbers = count()
    with ExitStack() as stack:

        def make(path: str | None = None, **how: object) -> Rig:
            rig = Rig(path or str(tmp_path / f"socket-{next(numbers)}"), **how)  # type: ignore[arg-type]
            stack.callback(rig.close)
            return rig

        yield make


@pytest.fixture
def rig(rig_of: Callable[..., Rig]) -> Iterator[Rig]:
    rig = rig_of()
    yield rig
    rig.check_at_rest()


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with rig.client() as client:
        yield client
