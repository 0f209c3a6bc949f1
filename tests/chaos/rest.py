"""What a server that has nothing to do takes: its processes, their descriptors, threads and memory, and the books."""

from __future__ import annotations

from pathlib import Path

import msgspec
from live import Live

MEMORY_SHARE, MEMORY_SLACK_BYTES = 0.1, 24 * 2**20
"""What allocators may keep more than at the beginning."""


class Rest(msgspec.Struct, frozen=True):
    """By title of the process."""

    pids: dict[str, int]
    descriptors: dict[str, int]
    threads: dict[str, int]
    memory_bytes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """Of all processes, shared pages counted once."""
        return sum(self.memory_bytes.values())


def look(live: Live, limit_s: float) -> Rest:
    """The server at rest. Raises AssertionError when it does not come to rest in time."""
    live.settle(limit_s)
    processes = live.processes()
    return Rest(
        {title: process.pid for title, process in processes.items()},
        {title: process.num_fds() for title, process in processes.items()},
        {title: process.num_threads() for title, process in processes.items()},
        {title: anonymous_bytes(process.pid) for title, process in processes.items()},
    )


def anonymous_bytes(pid: int) -> int:
    """A process's proportional share of anonymous memory: of libraries' pages others on this machine share too."""
    figures = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(figures["Pss_Anon"].split()[0]) * 1024


def grown(before: Rest, after: Rest) -> list[str]:
    """What did not return to what it was, in words. Pure."""
    if set(before.pids) != set(after.pids):
        return [f"processes: {sorted(before.pids)} became {sorted(after.pids)}"]
    found = [
        f"{title}: {what} {was} -> {now}"
        for what in ("descriptors", "threads")
        for title, was in getattr(before, what).items()
        if (now := getattr(after, what)[title]) != was
    ]
    if after.total_bytes > before.total_bytes * (1 + MEMORY_SHARE) + MEMORY_SLACK_BYTES:
        found.append(f"memory: {before.total_bytes >> 20} -> {after.total_bytes >> 20} MiB")
    return found


def misplaced(before: Rest, after: Rest, replaced: tuple[str, ...]) -> list[str]:
    """Processes that are new without a reason, or still the old ones; `replaced`: how the new ones' titles begin."""
    return [
        f"{title} was {'replaced' if after.pids[title] != pid else 'not replaced'}"
        for title, pid in before.pids.items()
        if title in after.pids and (after.pids[title] != pid) != title.startswith(replaced or ("nobody",))
    ]
