"""Lines of waiters, and whose turn it is. Pure.

A line belongs to one tenant, or to anything else that must not delay others. Its waiters are served in order. Between
lines:

    1. A line whose first waiter has lacked room for `PASSED_OVER_SECONDS` goes first, and freed room is kept for it. So
       small requests cannot starve a large one.
    2. Then the line that holds least. Among equals, the one whose last turn was longest ago.

A line is *stalled* from the moment its first waiter does not fit until that waiter has its turn. After
`STALLED_SECONDS` the first waiter has waited in vain, and so has each one behind it that does not fit either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

WaiterT = TypeVar("WaiterT")

PASSED_OVER_SECONDS = 1.0
STALLED_SECONDS = 5.0


class Fit(Enum):
    """Whether a waiter gets what it waits for now, or why not."""

    NOW = "now"
    NO_ROOM = "no room"
    """Other tenants hold what it needs."""
    OWN_SHARE = "own share"
    """Its own tenant holds what it needs. Nothing is kept for it."""
    NOT_YET = "not yet"
    """It waits for something that nobody else could use instead. Its line does not stall."""


@dataclass(frozen=True)
class Turn(Generic[WaiterT]):
    """A waiter's turn, or with `in_vain`, the end of its waiting."""

    waiter: WaiterT
    in_vain: bool = False


class Lines(Generic[WaiterT]):
    """The waiters, by line. `held` returns how much a line already holds of what is waited for."""

    def __init__(self, held: Callable[[Hashable], int] = lambda _: 0) -> None:
        self._held = held
        self._lines: dict[Hashable, deque[WaiterT]] = {}  # none is empty; the first line has the next turn
        self._stalled_s: dict[Hashable, float] = {}  # since when

    def __len__(self) -> int:
        """The number of lines."""
        return len(self._lines)

    def count(self, line: Hashable) -> int:
        """The number of waiters in this line."""
        return len(self._lines.get(line, ()))

    @property
    def waiting(self) -> int:
        """The number of waiters in all lines."""
        return sum(map(len, self._lines.values()))

    def is_stalled(self, line: Hashable) -> bool:
        """Whether the first waiter in this line did not fit."""
        return line in self._stalled_s

    def add(self, waiter: WaiterT, line: Hashable) -> None:
        """Add a waiter at the end of this line."""
        self._lines.setdefault(line, deque()).append(waiter)

    def remove(self, waiter: WaiterT, line: Hashable) -> None:
        """Remove a waiter. Does nothing if its turn has already come."""
        queue = self._lines.get(line, deque())
        if waiter in queue:
            queue.remove(waiter)
            self._tidy(line)

    def in_vain_s(self, now_s: float) -> float | None:
        """When the next waiter will have waited in vain, after `now_s`; None if no one will."""
        due_s = [since_s + STALLED_SECONDS for since_s in self._stalled_s.values()]
        return min((each_s for each_s in due_s if each_s > now_s), default=None)

    def next(self, now_s: float, fits: Callable[[WaiterT], Fit]) -> Turn[WaiterT] | None:
        """The next waiter to serve or refuse; None if there is none. A waiter that `fits` NOW has been served by it."""
        for line in sorted(self._lines, key=lambda line: (not self._is_passed_over(line, now_s), self._held(line))):
            fit = fits(self._lines[line][0])
            if fit is Fit.NOW:
                self._stalled_s.pop(line, None)
                return Turn(self._pop(line))
            if fit is Fit.NOT_YET:
                continue
            since_s = self._stalled_s.setdefault(line, now_s)
            if now_s - since_s >= STALLED_SECONDS:
                return Turn(self._pop(line), in_vain=True)  # still stalled, for those behind
            if fit is Fit.NO_ROOM and self._is_passed_over(line, now_s):
                return None  # free room is kept for this one
        return None

    def _is_passed_over(self, line: Hashable, now_s: float) -> bool:
        return now_s - self._stalled_s.get(line, now_s) >= PASSED_OVER_SECONDS

    def _pop(self, line: Hashable) -> WaiterT:
        """Remove the first waiter of this line, which becomes the last of all lines."""
        queue = self._lines.pop(line)
        waiter = queue.popleft()
        self._lines[line] = queue
        self._tidy(line)
        return waiter

    def _tidy(self, line: Hashable) -> None:
        if not self._lines[line]:
            del self._lines[line]
            self._stalled_s.pop(line, None)
