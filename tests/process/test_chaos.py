"""The kill matrix in short: each role killed and stopped once, over all stages; `make chaos` is the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from preloaded import Preloaded
from tests.chaos.holds import Holds
from tests.chaos.play import Ground
from tests.chaos.table import Round, short

PATIENCE = 6.0
"""Times the limits of `make chaos`: here they tell progress from a hang."""


@pytest.fixture(scope="module")
def ground(trained_folder: Path, holds: Holds, holding: Preloaded) -> Iterator[Ground]:
    ground = Ground(trained_folder, holds, holding, patience=PATIENCE, short=True)
    yield ground
    ground.close()


@pytest.mark.parametrize("round_", list(short(0)), ids=str)
def test_a_round(round_: Round, ground: Ground) -> None:
    seen = ground.play(round_)
    assert seen["ok"], "\n".join([*seen["why"], *seen.get("log", [])])
