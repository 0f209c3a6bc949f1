"""Which children are stalled, and since when. Pure: it is told what is seen, and asked what follows.

A child that runs without making progress can only be recognised by its silence, and a long item or step looks the same
for that long. A stopped child (SIGSTOP, a debugger) is known to be stopped, whatever it was doing. Time in which nobody
ran does not count as silence. Neither does a wait for the disk while memory is short: the child cannot send anything,
and nothing is wrong with it.
"""

from __future__ import annotations

NOTICE_S = 1.0
"""A stop of this length is reported; shorter stops happen under debuggers and `strace`."""
STARVED_MAX_S = 60.0
"""After this time a silent child counts as silent, whatever it waits for."""


class Stillness:
    """One child: when it last sent something, and since when it has been stopped."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._silent_s = now_s
        """Since when silence counts."""
        self._stopped_s: float | None = None

    def heard(self, now_s: float) -> None:
        """Note that it sent something."""
        self._heard_s = self._silent_s = now_s

    def resumed(self, now_s: float) -> None:
        """Nobody ran until now, so earlier silence does not count."""
        self.heard(now_s)
        if self._stopped_s is not None:
            self._stopped_s = now_s

    def seen(self, now_s: float, *, stopped: bool, starved: bool = False) -> None:
        """Note what was seen. `starved`: it waits for the disk, and memory is short."""
        if not stopped:
            self._stopped_s = None
        elif self._stopped_s is None:
            self._stopped_s = now_s
        if starved and now_s - self._heard_s <= STARVED_MAX_S:
            self._silent_s = now_s

    def doubtful(self, now_s: float, stall_s: float) -> bool:
        """Whether it may soon have been stalled for too long."""
        return self._stopped_s is not None or now_s - self._silent_s > stall_s / 2

    def noticed(self, now_s: float, stall_s: float) -> bool:
        """Whether it has been stopped long enough to count as out of service."""
        return self._stopped_for(now_s) >= min(NOTICE_S, stall_s / 2)

    def over(self, now_s: float, *, silent_s: float, stall_s: float) -> float | None:
        """How long it has been stalled, if that is too long: silent for `silent_s` or stopped for `stall_s`."""
        silent, stopped = now_s - self._silent_s, self._stopped_for(now_s)
        return max(silent, stopped) if silent > silent_s or stopped > stall_s else None

    def _stopped_for(self, now_s: float) -> float:
        return 0.0 if self._stopped_s is None else now_s - self._stopped_s
