"""The named settings: what `mmplane bench --setting NAME` runs, as data.

incident         the analyses' own constants: a decoder that takes no core, four ranks, pools of their sizes
cores            real media, and a core for each rank: what the incident's machine had
oversubscribed   real media, and four ranks whatever cores there are

A case is one server: all deliveries take turns on it.
"""

from __future__ import annotations

import msgspec

from mmplane.bench.run.campaign import Options


class Case(msgspec.Struct, frozen=True):
    """One workload at one pace. `requests` is per delivery; a quick run sends `quick` (0: leaves the case out)."""

    workload: str
    requests: int
    concurrency: int | None = None
    rate: float | None = None
    repetitions: int = 3
    cycles: int = 1
    """How many times a repetition sends its requests, with new stamps: more requests without making more items."""
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


SETTINGS = {
    "incident": Setting(
        4,
        (
            Case("incident:500:10MB", 12, 1, quick=3),
            Case("incident:500:10MB", 30, 10, quick=10),
            Case("incident:500:10MB", 50, 50),
            Case("incident:500:10MB", 100, 100),
            Case("incident:500:2MB", 12, 1),
            Case("incident:500:2MB", 30, 10),
            Case("incident:500:2MB", 50, 50),
            Case("incident:500:2MB", 100, 100),
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
