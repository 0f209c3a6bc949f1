"""All processes frozen together, as by `docker pause`: nobody is replaced and no answer is wrong (hazard R22)."""

from __future__ import annotations

from pathlib import Path
from random import Random

from live import serving
from tests.chaos.freeze import FLAGS, play

SECONDS = 25.0
FREEZE_S = (3.5, 8.0)
"""Longer than the limit of silence, and the longest also than that of an item."""


def test_freezing(tiny_folder: Path) -> None:
    with serving(tiny_folder, *FLAGS) as live:
        seen = play(live, seconds=SECONDS, random=Random(22), freeze_s=FREEZE_S)
    assert seen.freezes >= 2
    assert seen.answers > 0
    assert (seen.wrong, seen.replaced) == ([], [])
