"""CPU and memory of this server's processes: read when somebody asks, of the few that the supervisor named."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from mmplane.core.control import Running
from mmplane.observe.exposition import Labels

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
Figure = TypeVar("Figure")
ONE_OF_A_KIND = ("supervisor", "nursery", "frontend", "parser")


class Processes:
    """Who runs now. Nothing is polled: the supervisor tells of every change, and each look costs a system call each."""

    def __init__(self) -> None:
        self._running: tuple[Running, ...] = ()

    def replace(self, running: Sequence[Running]) -> None:
        """These run now, and no others."""
        self._running = tuple(running)

    def cpu_s(self) -> dict[Labels, float]:
        """Seconds of CPU of each since it started, by role and rank: a worker's or a rank's number, else empty."""
        return dict(self._read(process_cpu_s))

    def resident_bytes(self) -> dict[Labels, float]:
        """Bytes of each that are in memory, by role, rank and kind: `private`, or `shared` with others."""
        read = self._read(process_resident_bytes)
        return {(*labels, kind): found[kind] for labels, found in read for kind in found}

    def _read(self, figure: Callable[[int], Figure]) -> Iterator[tuple[Labels, Figure]]:
        for each in self._running:
            with suppress(OSError):  # it has just ended, and the supervisor is about to say so
                rank = "" if each.role in ONE_OF_A_KIND else str(each.index)
                yield (each.role, rank), figure(each.pid)


def process_resident_bytes(pid: int) -> dict[str, int]:
    """What of a process is in memory: `private` to it, and `shared`: the arena's pages and files.

    Raises OSError when there is none.
    """
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return {"private": (resident - shared) * PAGE_BYTES, "shared": shared * PAGE_BYTES}


def process_cpu_s(pid: int) -> float:
    """Seconds of CPU of all threads of a process, those that have ended included. Raises OSError when there is none.

    The clock's number is what clock_getcpuclockid(3) computes: the process id inverted, and 2 for the scheduler's.
    """
    return time.clock_gettime((~pid << 3) | 2)
