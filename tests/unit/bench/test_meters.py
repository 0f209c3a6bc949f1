"""The operating system's figures, against processes whose use is known."""

from __future__ import annotations

import subprocess
import sys

from mmplane.bench.run.meters import Cpu, leased_bytes

MEGABYTES = 64


ALLOCATING = f"""
import mmap, os
from mmplane.bench.run.meters import private_bytes
bytes_ = {MEGABYTES} << 20
before = private_bytes(os.getpid())
for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    kept = mmap.mmap(-1, bytes_, flags=flags | mmap.MAP_ANONYMOUS)
    for at in range(0, bytes_, mmap.PAGESIZE):
        kept[at] = 1
    print(private_bytes(os.getpid()) - before)
"""


def test_shared_memory_is_not_counted_and_private_memory_is() -> None:
    """In a process of its own: this one may give back what earlier tests have left."""
    command = [sys.executable, "-c", ALLOCATING]
    shared, private = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert shared < MEGABYTES << 19 < private


def test_cpu_between_two_looks_is_by_role_and_by_thread() -> None:
    before = Cpu({"rank 0": 1.0, "rank 1": 1.0, "supervisor": 0.5}, {("rank 0", 7): 0.9, ("rank 1", 8): 0.8})
    after = Cpu(
        {"rank 0": 3.0, "rank 1": 1.5, "supervisor": 0.5, "worker 1": 0.25},
        {("rank 0", 7): 1.0, ("rank 0", 9): 1.5, ("rank 1", 8): 1.3},
    )
    spent = after.since(before)
    assert {role: seconds for role, seconds in spent.by_role().items() if seconds} == {"rank": 2.5, "worker": 0.25}
    assert spent.busiest() == ("rank 0", 1.5)


def test_what_is_only_kept_for_later_is_not_leased() -> None:
    region = {"length_bytes": 100, "writing_bytes": 1, "unclaimed_bytes": 2, "leased_bytes": 4, "evictable_bytes": 50}
    assert leased_bytes([region, region]) == 14
