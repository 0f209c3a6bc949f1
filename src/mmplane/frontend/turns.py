"""Whose turn it is at the workers (R17). Pure.

    QUICK   pictures, sounds, short clips, a look into a file    any worker
    SLOW    what keeps a worker busy for long                    never the last worker, where there are several

Within a pace the tenants take turns, and a tenant's own items go in order of asking: one tenant's clips hold up nobody
else's pictures, nor do its thousand pictures hold up another's one. Where both paces may go, they alternate.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

from mmplane.core.records import Recipe

AskerT = TypeVar("AskerT")

SLOW_BYTES = 128 * 1024 * 1024
"""Pixels that are decoded for an item, in bytes: some 0.2 s of one core, as H.264, PNG or JPEG."""
PIXEL_BYTES = 3


class Pace(Enum):
    """How long an item is expected to keep a worker busy."""

    QUICK = "quick"
    SLOW = "slow"


def pace_of(recipe: Recipe) -> Pace:
    """By what its header says: all frames of a clip up to the last one taken are decoded, whatever is kept of them."""
    length_bytes = recipe.decoded_bytes
    if recipe.clip is not None:
        length_bytes = recipe.clip.width * recipe.clip.height * PIXEL_BYTES * (recipe.clip.indices[-1] + 1)
    return Pace.SLOW if length_bytes > SLOW_BYTES else Pace.QUICK


class Turns(Generic[AskerT]):
    """Who waits, by pace and tenant."""

    def __init__(self) -> None:
        self._waiting: dict[Pace, dict[str, deque[AskerT]]] = {pace: {} for pace in Pace}  # no tenant without any
        self._last = Pace.SLOW

    def count(self, pace: Pace) -> int:
        """How many wait at this pace."""
        return sum(map(len, self._waiting[pace].values()))

    def add(self, asker: AskerT, pace: Pace, tenant: str) -> None:
        """Wait from now on, as the last of this tenant."""
        self._waiting[pace].setdefault(tenant, deque()).append(asker)

    def remove(self, asker: AskerT, pace: Pace, tenant: str) -> None:
        """Wait no more; does nothing when its turn has come already."""
        queue = self._waiting[pace].get(tenant, deque())
        if asker in queue:
            queue.remove(asker)
            if not queue:
                del self._waiting[pace][tenant]

    def take(self, *, slow: bool) -> tuple[AskerT, Pace] | None:
        """Whose turn it is now, who waits no more; `slow` says whether a slow item may begin."""
        may = [pace for pace in Pace if self._waiting[pace] and (slow or pace is Pace.QUICK)]
        if not may:
            return None
        pace = next((pace for pace in may if pace is not self._last), may[0])
        self._last = pace
        tenant = next(iter(self._waiting[pace]))
        queue = self._waiting[pace].pop(tenant)
        asker = queue.popleft()
        if queue:
            self._waiting[pace][tenant] = queue  # behind all others
        return asker, pace
