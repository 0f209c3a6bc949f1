"""`auto`: the arena while it has room, otherwise `eager-compact` inline if the byte budget allows it. Pure.

The choice is simple because the arena, while it has room, needs the fewest copies at any number of ranks and any size
(docs/results.md has the measurements), and inline needs one copy for each rank. So the decision depends on whether the
item fits. The number of ranks only matters for the size of inline: its bytes, once here and once on each rank, must fit
into the same budget as everything else. It serves one machine, because the arena is one machine's memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["room", "no_items", "item_too_large", "arena_full"]
REASONS: tuple[Reason, ...] = ("room", "no_items", "item_too_large", "arena_full")


@dataclass(frozen=True)
class Situation:
    """What is known once a request's sizes are known and before anything has been decoded."""

    item_bytes: tuple[int, ...]
    """The size of the features of each item that is not in the arena yet."""
    region_bytes: int
    """The largest slot that could ever exist."""
    room_bytes: int
    """The largest slot available now, including evictions."""


def pick(situation: Situation) -> tuple[str, Reason]:
    """Choose the delivery for this request. Returns its name and the reason."""
    if not situation.item_bytes:
        return "arena", "no_items"
    if max(situation.item_bytes) > situation.region_bytes:
        return "eager-compact", "item_too_large"
    if max(situation.item_bytes) > situation.room_bytes:
        return "eager-compact", "arena_full"
    return "arena", "room"
