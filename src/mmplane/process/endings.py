"""Logs by which signal a child ended. The supervisor sees that a child is gone; the nursery, its parent, knows why."""

from __future__ import annotations

import logging
import signal
from collections import deque

from mmplane.core.control import Killed

log = logging.getLogger("mmplane")

KEPT_MAX = 64


class Endings:
    """Logs a line once both facts are known, in whichever order they arrive."""

    def __init__(self) -> None:
        self._gone: deque[tuple[int, str, int]] = deque(maxlen=KEPT_MAX)
        """Pid, name and level of the line. Also kept for children that exited by themselves, because nobody reports
        those."""
        self._killed: deque[Killed] = deque(maxlen=KEPT_MAX)

    def gone(self, pid: int, name: str, level: int) -> None:
        """A child is gone. If a signal ended it, log that at this level."""
        self._gone.append((pid, name, level))
        self._match()

    def killed(self, record: Killed) -> None:
        """The nursery reports the signal."""
        self._killed.append(record)
        self._match()

    def _match(self) -> None:
        for killed in tuple(self._killed):
            for gone in tuple(self._gone):
                if gone[0] == killed.pid:
                    log.log(gone[2], "%s was killed by %s", gone[1], signal.Signals(killed.signal).name)
                    self._killed.remove(killed)
                    self._gone.remove(gone)
                    break
