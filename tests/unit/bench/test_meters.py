"""The operating system's figures, against processes whose use is known."""

from __future__ import annotations

import mmap
import os

from mmplane.bench.run.meters import Cpu, leased_bytes, private_bytes

MEGABYTES = 64


def test_shared_memory_is_not_counted_and_private_memory_is() -> None:
    before = private_bytes(os.getpid())
    shared = mmap.mmap(-1, MEGABYTES << 20)
    shared.write(b"x" * (MEGABYTES << 20))
    assert private_bytes(os.getpid()) - before < MEGABYTES << 19
    private = mmap.mmap(-1, MEGABYTES << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private.write(b"x" * (MEGABYTES << 20))
    assert private_bytes(os.getpid()) - before > MEGABYTES << 19
    shared.close()
    private.close()


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
