"""Which children stand still, and since when. Pure: told what is seen, asked what follows.

Of a child that runs and makes no progress only its silence tells, and a long item or step looks the same for that long.
One that is stopped (SIGSTOP, a debugger) is known to be, whatever it was doing. Time in which nobody ran is no silence,
and neither is a wait for the disk while memory is short: the child cannot speak, and nothing is wrong with it.
"""

from __future__ import annotations

NOTICE_S = 1.0
"""Stopped for so long is worth telling; shorter stops happen under debuggers and `strace`."""
STARVED_MAX_S = 60.0
"""A child that says nothing for so long is silent, whatever it waits for."""


class Stillness:
    """One child: when it was last heard of, and since when it has been stopped."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._silent_s = now_s
        """Since when silence counts."""
        self._stopped_s: float | None = None

    def heard(self, now_s: float) -> None:
        """It said something."""
        self._heard_s = self._silent_s = now_s

    def resumed(self, now_s: float) -> None:
        """Nobody ran until now: what was before does not count."""
        self.heard(now_s)
        if self._stopped_s is not None:
            self._stopped_s = now_s

    def seen(self, now_s: float, *, stopped: bool, starved: bool = False) -> None:
        """It was looked at. `starved`: it waits for the disk, and memory is short."""
        if not stopped:
            self._stopped_s = None
        elif self._stopped_s is None:
            self._stopped_s = now_s
        if starved and now_s - self._heard_s <= STARVED_MAX_S:
            self._silent_s = now_s

    def doubtful(self, now_s: float, stall_s: float) -> bool:
        """Whether it may soon have stood still for too long."""
        return self._stopped_s is not None or now_s - self._silent_s > stall_s / 2

    def noticed(self, now_s: float, stall_s: float) -> bool:
        """Whether it has been stopped long enough to count as out of service."""
        return self._stopped_for(now_s) >= min(NOTICE_S, stall_s / 2)

    def over(self, now_s: float, *, silent_s: float, stall_s: float) -> float | None:
        """For how long it has stood still, once that is too long: silent for `silent_s` or stopped for `stall_s`."""
        silent, stopped = now_s - self._silent_s, self._stopped_for(now_s)
        return max(silent, stopped) if silent > silent_s or stopped > stall_s else None

    def _stopped_for(self, now_s: float) -> float:
        return 0.0 if self._stopped_s is None else now_s - self._stopped_s
