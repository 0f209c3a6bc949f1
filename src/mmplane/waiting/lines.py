"""Lines of waiters, and whose turn it is. Pure.

A line is one tenant's, or whatever else must not hold up others: its waiters go in order of asking. Between lines:

    1. A line whose first waiter lacked room for `PASSED_OVER_SECONDS` goes first, and what is freed is kept for it. So
       small requests cannot starve a large one.
    2. Then the line that holds least. Among equals, the one whose last turn was longest ago.

A line *stalls* when its first waiter does not fit, until that one has its turn. After `STALLED_SECONDS` the first
waiter has waited in vain, and so has each behind it that does not fit either.
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
    """Why a waiter gets nothing now, or that it does."""

    NOW = "now"
    NO_ROOM = "no room"
    """What others hold is in its way."""
    OWN_SHARE = "own share"
    """What its own tenant holds is in its way: nothing is kept for it."""
    NOT_YET = "not yet"
    """It waits for something that nobody else could use instead. Its line does not stall."""


@dataclass(frozen=True)
class Turn(Generic[WaiterT]):
    """Somebody's turn, or, `in_vain`, the end of its waiting."""

    waiter: WaiterT
    in_vain: bool = False


class Lines(Generic[WaiterT]):
    """Who waits, by line. `held` says how much a line holds already of what is waited for."""

    def __init__(self, held: Callable[[Hashable], int] = lambda _: 0) -> None:
        self._held = held
        self._lines: dict[Hashable, deque[WaiterT]] = {}  # none is empty; the next turn is the first one's
        self._stalled_s: dict[Hashable, float] = {}  # since when

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def count(self, line: Hashable) -> int:
        """How many wait in this line."""
        return len(self._lines.get(line, ()))

    @property
    def waiting(self) -> int:
        """How many wait in all lines."""
        return sum(map(len, self._lines.values()))

    def is_stalled(self, line: Hashable) -> bool:
        """Whether the first in this line did not fit."""
        return line in self._stalled_s

    def add(self, waiter: WaiterT, line: Hashable) -> None:
        """Wait from now on, as the last of this line."""
        self._lines.setdefault(line, deque()).append(waiter)

    def remove(self, waiter: WaiterT, line: Hashable) -> None:
        """Wait no more. Does nothing when its turn has come already."""
        queue = self._lines.get(line, deque())
        if waiter in queue:
            queue.remove(waiter)
            self._tidy(line)

    def in_vain_s(self, now_s: float) -> float | None:
        """When the next waiter will have waited in vain, after `now_s`; None if nobody will."""
        due_s = [since_s + STALLED_SECONDS for since_s in self._stalled_s.values()]
        return min((each_s for each_s in due_s if each_s > now_s), default=None)

    def next(self, now_s: float, fits: Callable[[WaiterT], Fit]) -> Turn[WaiterT] | None:
        """Whose turn it is now, who waits no more; None if it is nobody's. Whoever `fits` NOW has been served by it."""
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
                return None  # what is free is kept for this one
        return None

    def _is_passed_over(self, line: Hashable, now_s: float) -> bool:
        return now_s - self._stalled_s.get(line, now_s) >= PASSED_OVER_SECONDS

    def _pop(self, line: Hashable) -> WaiterT:
        """The first of this line, which is now the last of all lines."""
        queue = self._lines.pop(line)
        waiter = queue.popleft()
        self._lines[line] = queue
        self._tidy(line)
        return waiter

    def _tidy(self, line: Hashable) -> None:
        if not self._lines[line]:
            del self._lines[line]
            self._stalled_s.pop(line, None)
