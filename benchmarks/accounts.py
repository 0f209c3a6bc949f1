"""What a server's processes take, for the benchmarks of media: CPU of the whole tree, private memory, a control group.

CPU is the kernel's count of every process of the tree, and of those that have ended and were reaped within it. Memory
is sampled: what each process has for itself (RSS without what is shared, which is the arena). A control group counts
every page that is charged after its members have moved into it, page cache and kernel memory included; where none can
be made (no right to, or no memory controller) `Group.made` says so.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from mmplane.bench.run.meters import process_cpu_s

SAMPLE_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(supervisor: psutil.Process) -> list[psutil.Process]:
    """The server's processes, alive now."""
    return [supervisor, *supervisor.children(recursive=True)]


def tree_cpu_s(supervisor: psutil.Process) -> float:
    """Seconds of CPU of them all, and of their children that have ended."""
    total = 0.0
    for process in tree(supervisor):
        with suppress(OSError, psutil.NoSuchProcess):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            total += process_cpu_s(process.pid) + (int(fields[13]) + int(fields[14])) / _TICKS
    return total


def private_bytes(supervisor: psutil.Process) -> int:
    """What they have for themselves, all together."""
    total = 0
    for process in tree(supervisor):
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


class Peak:
    """The most private memory that was seen, beyond what there was at the beginning."""

    def __init__(self, idle_bytes: int) -> None:
        self.idle_bytes = idle_bytes
        self.bytes = 0

    def see(self, now_bytes: int) -> None:
        """One sample."""
        self.bytes = max(self.bytes, now_bytes - self.idle_bytes)

    def take(self) -> int:
        """The peak since the last call."""
        peak, self.bytes = self.bytes, 0
        return peak


@contextmanager
def watched(supervisor: psutil.Process) -> Iterator[Peak]:
    """Sampled by a thread while the block runs."""
    peak = Peak(private_bytes(supervisor))
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak.see(private_bytes(supervisor))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


class Group:
    """A control group below our own, for the block; `made` is False where the kernel gives us none."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._folder, self._peak, self._limit = _places()
        self.made = False

    def __enter__(self) -> Group:
        with suppress(OSError):
            self._folder.mkdir()
            self.made = True
            if self._limit_bytes is not None:
                (self._folder / self._limit).write_text(str(self._limit_bytes))
            (self._folder / self._peak).read_text()
        return self

    def take_in(self, supervisor: psutil.Process) -> None:
        """Move these processes in; what they are charged from now on counts."""
        for process in tree(supervisor) if self.made else ():
            with suppress(OSError):
                (self._folder / "cgroup.procs").write_text(str(process.pid))

    def peak_bytes(self) -> int | None:
        """The most at a time, by the kernel's word; None where there is no group."""
        with suppress(OSError):
            return int((self._folder / self._peak).read_text())
        return None

    def __exit__(self, *_: object) -> None:
        """Its members go back, so that it can be removed."""
        if self.made:
            for pid in (self._folder / "cgroup.procs").read_text().split():
                with suppress(OSError):
                    (self._folder.parent / "cgroup.procs").write_text(pid)
            with suppress(OSError):
                self._folder.rmdir()


def _places() -> tuple[Path, str, str]:
    """The group's folder, and the names of its files for the peak and the limit, in either version of the interface."""
    name = f"mmplane-{os.getpid()}"
    own = {line.split(":")[1]: line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    if "memory" in own:
        folder = Path("/sys/fs/cgroup/memory") / own["memory"].lstrip("/")
        return folder / name, "memory.max_usage_in_bytes", "memory.limit_in_bytes"
    return Path("/sys/fs/cgroup") / own.get("", "/").lstrip("/") / name, "memory.peak", "memory.max"
