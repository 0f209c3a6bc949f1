"""`auto`: a pure choice, each reason reached by what it says."""

from __future__ import annotations

from typing import get_args

import pytest

from mmplane.delivery.auto import REASONS, Reason, Situation, pick
from mmplane.delivery.names import DELIVERIES


@pytest.mark.parametrize(
    ("item_bytes", "room_bytes", "choice"),
    [
        ((), 0, ("arena", "no_items")),
        ((10,), 10, ("arena", "room")),
        ((10, 1, 10), 10, ("arena", "room")),
        ((11,), 10, ("eager-compact", "arena_full")),
        ((1, 11), 10, ("eager-compact", "arena_full")),
        ((100,), 100, ("arena", "room")),
        ((101,), 100, ("eager-compact", "item_too_large")),
        ((1, 101), 0, ("eager-compact", "item_too_large")),
    ],
)
def test_pick(item_bytes: tuple[int, ...], room_bytes: int, choice: tuple[str, Reason]) -> None:
    assert pick(Situation(item_bytes=item_bytes, region_bytes=100, room_bytes=room_bytes)) == choice


def test_reasons_are_all_there_and_choices_exist() -> None:
    assert get_args(Reason) == REASONS
    assert {"arena", "eager-compact"} <= DELIVERIES.keys()
