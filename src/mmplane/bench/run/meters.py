"""Figures of the operating system about a server's processes: CPU, memory, descriptors and threads, by role.

CPU is the kernel's count for the whole process in nanoseconds, including threads that have ended. Memory is the
proportional set size (PSS) without shared memory. The shared memory is the arena's and comes from the arena's own
figures, so every byte is counted once. Reading PSS walks page tables and costs milliseconds, so it is done outside the
timed part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from mmplane.bench.run.server import ROLES, Server, role_of
from mmplane.observe.processes import process_cpu_s

SAMPLE_SECONDS = 0.1
SHARE = 5


class Memory(msgspec.Struct, frozen=True):
    """Bytes by role, the arena's bytes, open descriptors and threads at one moment (seconds since the epoch).

    `arena` is what was reserved at start, and `arena_leased` the part that requests in flight hold. `arena_leased_max`
    is the maximum that they have held since the front end started, because a request holds its features only for
    milliseconds.
    """

    at_s: float
    frontend: int
    worker: int
    rank: int
    arena: int
    descriptors: int
    in_flight: int = 0
    threads: int = 0
    parser: int = 0
    nursery: int = 0
    supervisor: int = 0
    arena_leased: int = 0
    arena_leased_max: int = 0

    @property
    def private(self) -> int:
        """Memory of all processes."""
        return sum(getattr(self, role) for role in ROLES)

    @property
    def total(self) -> int:
        """Memory of the server, including the whole reserved arena."""
        return self.private + self.arena


class Cpu(msgspec.Struct, frozen=True):
    """CPU seconds so far: of each process by name, and of each thread by its process's name and its own number."""

    processes: dict[str, float]
    threads: dict[tuple[str, int], float]

    def by_role(self) -> dict[str, float]:
        """CPU seconds of all processes of a role."""
        found = dict.fromkeys(ROLES, 0.0)
        for name, seconds in self.processes.items():
            found[role_of(name)] += seconds
        return found

    def since(self, before: Cpu) -> Cpu:
        """Return the CPU time used after `before`. Processes started since then count fully."""
        return Cpu(
            {name: seconds - before.processes.get(name, 0.0) for name, seconds in self.processes.items()},
            {thread: seconds - before.threads.get(thread, 0.0) for thread, seconds in self.threads.items()},
        )

    def busiest(self) -> tuple[str, float]:
        """Return the name of the process whose thread used the most CPU, and that thread's seconds."""
        (name, _), seconds = max(self.threads.items(), key=lambda each: each[1])
        return name, seconds


def cpu(server: Server) -> Cpu:
    """Read the CPU times now. Threads are counted in clock ticks of 10 ms; threads that have ended are not included."""
    processes: dict[str, float] = {}
    threads: dict[tuple[str, int], float] = {}
    for name, process in server.named():
        processes[name] = processes.get(name, 0.0) + process_cpu_s(process.pid)
        threads |= {(name, each.id): each.user_time + each.system_time for each in process.threads()}
    return Cpu(processes, threads)


def cpu_s(server: Server) -> dict[str, float]:
    """Return CPU seconds so far, by role."""
    return cpu(server).by_role()


def memory(server: Server) -> Memory:
    """Read memory, descriptors and threads now."""
    roles = dict.fromkeys(ROLES, 0)
    descriptors = threads = 0
    for role, processes in server.processes().items():
        for process in processes:
            try:
                roles[role] += private_bytes(process.pid)
                descriptors += process.num_fds()
                threads += process.num_threads()
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue  # the process was replaced between the two reads
    statistics = server.statistics()
    regions = statistics["arena"]["regions"]
    return Memory(
        time.time(),
        **roles,
        arena=sum(region["length_bytes"] for region in regions),
        descriptors=descriptors,
        in_flight=statistics["requests"]["in_flight"],
        threads=threads,
        arena_leased=leased_bytes(regions),
        arena_leased_max=statistics["arena"]["held_bytes_max"],
    )


def private_bytes(pid: int) -> int:
    """Return a process's proportional set size without shared memory segments."""
    figures = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(figures[name].split()[0]) * 1024 for name in ("Pss_Anon", "Pss_File"))


def leased_bytes(regions: Sequence[dict[str, Any]]) -> int:
    """Bytes that requests in flight hold, without items that are only kept for later requests."""
    return sum(region["writing_bytes"] + region["unclaimed_bytes"] + region["leased_bytes"] for region in regions)


@contextmanager
def watched(server: Server, every_s: float = SAMPLE_SECONDS) -> Iterator[list[Memory]]:
    """Sample memory in a thread while the block runs, and once more at its end. The returned list grows.

    If gigabytes are mapped, reading takes the kernel tens of milliseconds, so it may use one part in `SHARE` of the
    time.
    """
    samples = [memory(server)]
    ended = threading.Event()

    def look() -> None:
        with suppress(httpx.HTTPError):  # the front end has just ended; its requests report it
            samples.append(memory(server))

    def watch() -> None:
        took_s = 0.0
        while not ended.wait(max(every_s, (SHARE - 1) * took_s)):
            began_s = time.monotonic()
            look()
            took_s = time.monotonic() - began_s

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        look()
