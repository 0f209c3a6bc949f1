"""How to measure, and the named settings of `mmplane bench --setting NAME`, as data.

    incident         the analyses' own constants: a decoder that takes no core, four ranks, pools of their sizes
    cores            real media, and a core for each rank, as on the incident's machine
    oversubscribed   real media, and four ranks on any number of cores

A case is one server, on which all deliveries take turns.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mmplane.bench.inputs.workloads import Workload
from mmplane.delivery.ingress import AUTO
from mmplane.machine import cores_usable

Variant = tuple[str, bool]
"""A delivery, and whether its cache is on."""
CACHED = ("arena", "auto")
"""Their cache is on unless asked otherwise; that of the others is off."""
REPETITIONS = 3
BUDGET_BYTES = 64 * 1024**3
"""For the servers: what baselines hold of a request on every rank is to be seen in their memory, not refused."""
REQUEST_SECONDS = 600
"""For the servers of closed loops: the last of 100 requests is to be answered. In an open loop it may be refused."""
STALL_SECONDS = 300
"""For the servers: a baseline that holds its loop up, for 100 clips in one step, is measured and not replaced."""


class Pools(msgspec.Struct, frozen=True):
    """How many items are materialised at once, by whom. The threads are as many as the analyses give.

    `workers` are the arena's processes and the threads of the front end (B2); None: the workload's, or one for each
    core, and one that clips leave to pictures. `leader_threads` are rank 0's (A3), `delivery_threads` each rank's (C2).
    """

    workers: int | None = None
    leader_threads: int = 4
    delivery_threads: int = 2

    def of(self, workload: Workload) -> dict[str, int]:
        """All of them, by name."""
        workers = self.workers or workload.workers or cores_usable() + 1
        return msgspec.structs.asdict(msgspec.structs.replace(self, workers=workers))


class Options(msgspec.Struct, frozen=True):
    """What to measure. None takes the workload's own value; `cache` None each delivery's own."""

    deliveries: tuple[str, ...]
    model_folder: str
    runner: str
    requests: int | None = None
    concurrency: int | None = None
    rate: float | None = None
    tokens: int | None = None
    cache: tuple[bool, ...] | None = None
    repetitions: int = REPETITIONS
    seed: int = 0
    cycles: int = 1
    """How often a turn sends its requests, under other stamps each time."""
    pools: Pools = Pools()
    feature_hash: str = "sha256"
    ingress: str = AUTO
    setting: str | None = None
    """The named setting that this is a case of."""
    memory: bool = True
    """Whether memory is measured: of each delivery in fresh processes, which takes most of the time of a quick run."""
    flags: tuple[str, ...] = ()
    """Further flags of `mmplane serve`."""

    def server_flags(self, workload: Workload) -> list[str]:
        """Flags of `mmplane serve` for a workload."""
        limits = ["--stall-seconds", str(STALL_SECONDS), "--budget-bytes", str(BUDGET_BYTES)]
        if self.pace(workload)[1] is None:
            limits += ["--request-seconds", str(REQUEST_SECONDS)]
        pools = [text for name, size in self.pools.of(workload).items() for text in (_flag(name), str(size))]
        # Features are floats, as the incident's were: bytes are what `eager-compact` adds.
        baselines = ["--feature-hash", self.feature_hash, "--ingress", self.ingress, "--encoding", "float32"]
        caches = ["--embedding-cache-bytes", "0", "--prefix-cache", "off"]  # no workload here is about them
        return ["--runner", self.runner, *limits, *pools, *baselines, *caches, *self.flags, *workload.flags]

    def pace(self, workload: Workload) -> tuple[int, float | None]:
        """How many requests are under way at most, or how many are sent in a second."""
        rate = self.rate if self.rate or self.concurrency else workload.rate
        return self.concurrency or workload.concurrency, rate

    def variants(self) -> list[Variant]:
        """Deliveries with their cache on or off, in order."""
        return [(name, cache) for name in self.deliveries for cache in (self.cache or (name in CACHED,))]


class Case(msgspec.Struct, frozen=True):
    """One workload at one pace. `requests` is per delivery; a quick run sends `quick` (0: leaves the case out)."""

    workload: str
    requests: int
    concurrency: int | None = None
    rate: float | None = None
    repetitions: int = 3
    cycles: int = 1
    """How many times a repetition sends its requests, with new stamps: more requests without making more items."""
    memory: bool = True
    """Whether memory is measured, unless a run leaves it out everywhere."""
    quick: int = 0

    def options(self, common: Options) -> Options:
        """Return how to measure it; `common` has what is the same in all cases."""
        return msgspec.structs.replace(
            common,
            requests=self.requests,
            concurrency=self.concurrency,
            rate=self.rate,
            repetitions=self.repetitions,
            cycles=self.cycles,
            memory=self.memory and common.memory,
        )


class Setting(msgspec.Struct, frozen=True):
    """Cases that belong together. `tp` None means as many ranks as there are cores."""

    tp: int | None
    cases: tuple[Case, ...]

    def chosen(self, *, quick: bool) -> tuple[Case, ...]:
        """Return the cases to run: all of them, or the quick ones with fewer requests and one repetition."""
        if not quick:
            return self.cases
        few = [msgspec.structs.replace(case, requests=case.quick, repetitions=1) for case in self.cases]
        return tuple(case for case in few if case.requests)


_ONCE: dict[str, Any] = {"repetitions": 1, "memory": False}
"""Cases of minutes, whose designs differ by more than the 5 % between repetitions that the first case shows.

Their memory is seen in the cases of 10 MB.
"""
SETTINGS = {
    "incident": Setting(
        4,
        (
            Case("incident:500:10MB", 12, 1, quick=3),
            Case("incident:500:10MB", 30, 10, quick=10),
            Case("incident:500:10MB", 50, 50),
            Case("incident:500:10MB", 100, 100, **_ONCE),
            Case("incident:500:2MB", 12, 1, memory=False),
            Case("incident:500:2MB", 30, 10, **_ONCE),
            Case("incident:500:2MB", 50, 50, **_ONCE),
            Case("incident:500:2MB", 100, 100, **_ONCE),
            Case("incident:500:90MB", 6, 1),
            Case("incident:500:90MB", 20, 10),
            Case("incident:500:10MB", 100, rate=100.0, repetitions=1, cycles=10),
            Case("incident:10:10MB", 30, 1),  # analysis A1 is about the hash, so the decoder takes little time
        ),
    ),
    "cores": Setting(
        None,
        (
            Case("photo", 201, 1),
            Case("photo", 201, 10, quick=20),
            Case("video-2mb", 42, 1),
            Case("video-2mb", 42, 10),
        ),
    ),
    "oversubscribed": Setting(
        4,
        (
            Case("photo", 60, 10, quick=20),
            Case("photo", 100, 50),
            Case("photo", 288, 96),
            Case("video-2mb", 30, 10),
        ),
    ),
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
