"""CPU and memory of this server's processes, read only when somebody asks."""

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
    """The running processes. Nothing is polled: the supervisor reports every change, and a read costs system calls."""

    def __init__(self) -> None:
        self._running: tuple[Running, ...] = ()

    def replace(self, running: Sequence[Running]) -> None:
        """Set the running processes."""
        self._running = tuple(running)

    def cpu_s(self) -> dict[Labels, float]:
        """CPU seconds of each process since its start, by role and rank (a worker's or rank's number, or "")."""
        return dict(self._read(process_cpu_s))

    def resident_bytes(self) -> dict[Labels, float]:
        """Resident bytes of each process, by role, rank and kind: `private`, or `shared` with others."""
        read = self._read(process_resident_bytes)
        return {(*labels, kind): found[kind] for labels, found in read for kind in found}

    def _read(self, figure: Callable[[int], Figure]) -> Iterator[tuple[Labels, Figure]]:
        for each in self._running:
            with suppress(OSError):  # it has just ended, and the supervisor is about to report it
                rank = "" if each.role in ONE_OF_A_KIND else str(each.index)
                yield (each.role, rank), figure(each.pid)


def process_resident_bytes(pid: int) -> dict[str, int]:
    """Resident memory of a process: `private`, and `shared` (the arena's pages and files).

    Raises OSError if there is no such process.
    """
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return {"private": (resident - shared) * PAGE_BYTES, "shared": shared * PAGE_BYTES}


def process_cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process, including those that have ended. Raises OSError if there is none.

    The clock id is what clock_getcpuclockid(3) computes: the inverted process id, and 2 for the scheduler's clock.
    """
    return time.clock_gettime((~pid << 3) | 2)
