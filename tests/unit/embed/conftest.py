from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from embed_rig import Rig
from mmplane.embed.address import discard


@pytest.fixture
def rig_of() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**how: object) -> Rig:
        made.append(Rig(**how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for rig in made:
        rig.plane.check_integrity()
        discard(rig.address)


@pytest.fixture
def rig(rig_of: Callable[..., Rig]) -> Rig:
    return rig_of()
