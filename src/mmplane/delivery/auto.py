"""`auto`: the arena while it has room, else `eager-compact` inline if the byte budget admits that. Pure.

Why so little to choose from: where the arena has room it costs the fewest copies at any number of ranks and any size
(docs/results.md has the measurements); inline costs one for each rank. So what decides is whether the item fits, and
the number of ranks only through what inline would take: its bytes, once here and once on each rank, must be admitted by
the same budget as everything else. It serves one node: the arena is one machine's memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["room", "no_items", "item_too_large", "arena_full"]
REASONS: tuple[Reason, ...] = ("room", "no_items", "item_too_large", "arena_full")


@dataclass(frozen=True)
class Situation:
    """What is known when a request's sizes are known and nothing has been decoded."""

    item_bytes: tuple[int, ...]
    """Features of each item that is not in the arena yet."""
    region_bytes: int
    """The largest slot that could ever be had."""
    room_bytes: int
    """The largest slot that could be had now, by eviction too."""


def pick(situation: Situation) -> tuple[str, Reason]:
    """The delivery for this request, and why."""
    if not situation.item_bytes:
        return "arena", "no_items"
    if max(situation.item_bytes) > situation.region_bytes:
        return "eager-compact", "item_too_large"
    if max(situation.item_bytes) > situation.room_bytes:
        return "eager-compact", "arena_full"
    return "arena", "room"
