"""Which ranks of this machine have joined, and which of them have died: each is watched through a pidfd."""

from __future__ import annotations

import logging
import os
import select
from weakref import finalize

log = logging.getLogger("mmplane")


class Roster:
    """Ranks by number. `fileno` is readable when one of them has died."""

    def __init__(self) -> None:
        self._joining: dict[int, int] = {}
        """Pids of ranks that have not been reported yet."""
        self._late: set[int] = set()
        self._pidfds: dict[int, int] = {}
        """-1 once the rank is dead."""
        self._deaths = select.epoll()
        finalize(self, _close, self._deaths, self._pidfds).atexit = False  # the end of the process does this too

    def fileno(self) -> int:
        """A descriptor for a selector."""
        return self._deaths.fileno()

    def is_new(self, rank: int) -> bool:
        """Whether this rank has not joined yet."""
        return rank not in self._pidfds and rank not in self._joining

    def join(self, rank: int, pid: int) -> None:
        """This process is that rank, which is new."""
        self._joining[rank] = pid

    def look(self) -> tuple[list[int], list[int]]:
        """The ranks that have joined since the last call, and those that have died."""
        joined = [rank for rank, pid in list(self._joining.items()) if self._watch(rank, pid)]
        died = [rank for rank in joined if self._pidfds[rank] < 0]
        for pidfd, _ in self._deaths.poll(0):
            rank = next(rank for rank, known in self._pidfds.items() if known == pidfd)
            self._deaths.unregister(pidfd)
            os.close(pidfd)
            self._pidfds[rank] = -1
            died.append(rank)
        return joined, died

    def _watch(self, rank: int, pid: int) -> bool:
        """Open its pidfd. Returns False if it has to be tried again."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has died since then
            pidfd = -1
        except OSError as error:  # for example, no descriptor is free; at the next call one may be
            if rank not in self._late:
                self._late.add(rank)
                log.warning("rank %d has not joined yet: %s", rank, error.strerror)
            return False
        if pidfd >= 0:
            self._deaths.register(pidfd, select.EPOLLIN)
        del self._joining[rank]
        self._pidfds[rank] = pidfd
        return True


def _close(deaths: select.epoll, pidfds: dict[int, int]) -> None:
    deaths.close()
    for pidfd in pidfds.values():
        if pidfd >= 0:
            os.close(pidfd)
