"""Whose turn it is at the workers (R17). Pure.

    QUICK   pictures, sounds, short clips, a look into a file    any worker
    SLOW    what keeps a worker busy for long                    never the last worker, where there are several

Within a pace the tenants take turns, and a tenant's own items go in order of asking: one tenant's clips hold up nobody
else's pictures, nor do its thousand pictures hold up another's one. Where both paces may go, they alternate.

Whose turn it is may lack something besides a worker: room for what it will make. Then it is the next one's turn, but
nobody of its own tenant and pace overtakes it, and that queue is *blocked*. Once it has been for `BLOCKED_SECONDS`, who
is first in it has waited in vain, and so has each behind that lacks room as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from mmplane.core.records import Recipe

AskerT = TypeVar("AskerT")

SLOW_BYTES = 128 * 1024 * 1024
"""Pixels that are decoded for an item, in bytes: some 0.2 s of one core, as H.264, PNG or JPEG."""
PIXEL_BYTES = 3
BLOCKED_SECONDS = 5.0
"""How long an item whose turn has come may wait for room."""


class Pace(Enum):
    """How long an item is expected to keep a worker busy."""

    QUICK = "quick"
    SLOW = "slow"


def pace_of(recipe: Recipe) -> Pace:
    """By what its header says; of a clip more is decoded than is kept."""
    length_bytes = recipe.decoded_bytes
    if recipe.clip is not None:
        length_bytes = recipe.clip.width * recipe.clip.height * PIXEL_BYTES * recipe.clip.frames_decoded
    return Pace.SLOW if length_bytes > SLOW_BYTES else Pace.QUICK


@dataclass(frozen=True)
class Turn(Generic[AskerT]):
    """Somebody's turn, or, `in_vain`, the end of its waiting."""

    asker: AskerT
    in_vain: bool = False


def has_all(_: object) -> bool:
    """Nobody lacks anything but a worker."""
    return True


class Turns(Generic[AskerT]):
    """Who waits, by pace and tenant."""

    def __init__(self) -> None:
        self._waiting: dict[Pace, dict[str, deque[AskerT]]] = {pace: {} for pace in Pace}  # no tenant without any
        self._last = Pace.SLOW
        self._blocked_s: dict[tuple[Pace, str], float] = {}  # since when; of queues with somebody in them

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
                self._blocked_s.pop((pace, tenant), None)

    def ahead(self, pace: Pace, tenant: str) -> int:
        """About how many turns come before that of who asks now, if it has to wait."""
        return len(self._waiting[pace].get(tenant, ())) * len(self._waiting[pace])

    def is_blocked(self, pace: Pace, tenant: str) -> bool:
        """Whether who is first at this pace, of this tenant, lacks room."""
        return (pace, tenant) in self._blocked_s

    def in_vain_s(self, *, slow: bool) -> float | None:
        """When somebody will have waited in vain, if no room comes; None if nobody is blocked. `slow` as for `take`."""
        since_s = [since_s for (pace, _), since_s in self._blocked_s.items() if slow or pace is Pace.QUICK]
        return min(since_s) + BLOCKED_SECONDS if since_s else None

    def take(self, now_s: float, *, slow: bool, ready: Callable[[AskerT], bool] = has_all) -> Turn[AskerT] | None:
        """Whose turn it is now, who waits no more; None if it is nobody's.

        `slow` says whether a slow item may begin, `ready` whether there is room for this one.
        """
        may = [pace for pace in Pace if slow or pace is Pace.QUICK]
        for pace in sorted(may, key=lambda pace: pace is self._last):
            for tenant in tuple(self._waiting[pace]):
                if ready(self._waiting[pace][tenant][0]):
                    self._last = pace
                    self._blocked_s.pop((pace, tenant), None)
                    return Turn(self._pop(pace, tenant))
                since_s = self._blocked_s.setdefault((pace, tenant), now_s)
                if now_s - since_s >= BLOCKED_SECONDS:
                    return Turn(self._pop(pace, tenant), in_vain=True)  # still blocked, for those behind
        return None

    def _pop(self, pace: Pace, tenant: str) -> AskerT:
        """Who is first in this queue; the others of the tenant are behind all others now."""
        queue = self._waiting[pace].pop(tenant)
        asker = queue.popleft()
        if queue:
            self._waiting[pace][tenant] = queue
        else:
            self._blocked_s.pop((pace, tenant), None)
        return asker
