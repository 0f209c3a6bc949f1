"""The waiting room: requests wait here for bytes, or for a worker and a slot. Nothing else queues requests.

A waiter brings a function `fits`, which takes what it waits for and returns it, or returns why that is not possible
now. Whenever something may have become free (`offer`), the room asks the waiters in the order of
`mmplane.waiting.lines`.

A stalled line is limited to the number of waiters that were served recently: a request that would only be refused later
is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from mmplane.core.errors import RequestError
from mmplane.waiting.lines import STALLED_SECONDS, Fit, Lines

GrantT = TypeVar("GrantT")

WAITING_MIN = 8
"""This many may always wait in a line, because the speed of a server that has just started is unknown."""
WAITING_MAX = 256


class _Waiter(Generic[GrantT]):
    def __init__(self, fits: Callable[[], GrantT | Fit]) -> None:
        self.fits = fits
        self.turn: asyncio.Future[GrantT] = asyncio.get_running_loop().create_future()


class WaitingRoom(Generic[GrantT]):
    """Grants are given out in turns; `give_back` undoes one whose waiter has gone away in the meantime.

    `refusal(stalled)` is the error for waiters that wait in vain, or are too many; `held` returns how much a line
    already holds. `waiting_min` may always wait in a line, and never more than `waiting_max`.
    """

    def __init__(
        self,
        *,
        give_back: Callable[[GrantT], Any],
        refusal: Callable[[bool], RequestError],
        held: Callable[[Hashable], int] = lambda _: 0,
        waiting_max: int = WAITING_MAX,
        waiting_min: int | None = None,
    ) -> None:
        self._give_back = give_back
        self._refusal = refusal
        self._waiting_max = waiting_max
        self._waiting_min = waiting_min
        self._lines: Lines[_Waiter[GrantT]] = Lines(held)
        self._turns_s: deque[float] = deque(maxlen=WAITING_MAX)
        """The times of the most recent turns."""
        self._again: asyncio.Handle | None = None
        """While a line is stalled: when to look at it again, if nothing becomes free before."""

    async def wait(self, line: Hashable, fits: Callable[[], GrantT | Fit]) -> GrantT:
        """Return what `fits` takes, in turn; at once if it is this line's turn now.

        Raises RequestError: whatever `fits` raises, or the refusal if the line stalls for `STALLED_SECONDS` or too many
        wait in it.
        """
        if not self._lines and not isinstance(grant := fits(), Fit):  # nobody else waits
            self._turns_s.append(time.monotonic())
            return grant
        waiter = _Waiter(fits)
        self._lines.add(waiter, line)
        self.offer()
        if not waiter.turn.done() and self._lines.count(line) > self._waiting_most(line):
            self._lines.remove(waiter, line)
            raise self._refusal(self._lines.is_stalled(line))
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._lines.remove(waiter, line)
                self.offer_soon()  # for the waiters behind it
            elif waiter.turn.exception() is None:
                self._give_back(waiter.turn.result())  # its turn came in the same turn of the loop
            raise

    def offer(self) -> None:
        """Something may have become free: serve the next waiters, and refuse those that have waited in vain."""
        if not self._lines:
            return
        now_s = time.monotonic()
        while turn := self._lines.next(now_s, self._serve):
            if turn.in_vain and not turn.waiter.turn.done():
                turn.waiter.turn.set_exception(self._refusal(True))
        self._look_again(now_s)

    def offer_soon(self) -> None:
        """Call `offer` in the next turn of the loop, once however often this is called."""
        if not self._lines:
            return
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_soon(self.offer)

    @property
    def waiting(self) -> int:
        """The number of waiters in all lines."""
        return self._lines.waiting

    def _serve(self, waiter: _Waiter[GrantT]) -> Fit:
        """Have the waiter take what it waits for, unless it is gone and has not run since (its turn is cancelled)."""
        if waiter.turn.done():
            return Fit.NOW
        try:
            grant = waiter.fits()
        except RequestError as error:
            waiter.turn.set_exception(error)
            return Fit.NOW
        if isinstance(grant, Fit):
            return grant
        self._turns_s.append(time.monotonic())
        waiter.turn.set_result(grant)
        return Fit.NOW

    def _waiting_most(self, line: Hashable) -> int:
        """How many may wait in a line: once it stalls, its part of those served within `STALLED_SECONDS`."""
        if not self._lines.is_stalled(line):
            return self._waiting_max
        then_s = time.monotonic() - STALLED_SECONDS
        while self._turns_s and self._turns_s[0] < then_s:
            self._turns_s.popleft()
        return min(self._waiting_max, max(self._waiting_min or WAITING_MIN, len(self._turns_s) // len(self._lines)))

    def _look_again(self, now_s: float) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        in_vain_s = self._lines.in_vain_s(now_s)
        if in_vain_s is not None:
            self._again = asyncio.get_running_loop().call_later(in_vain_s - now_s, self.offer)
