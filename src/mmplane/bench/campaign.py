"""A campaign: workloads, servers and deliveries in turns, so that what disturbs the machine disturbs all alike.

One server serves all deliveries of a number of ranks; between turns it is switched. Repetitions are interleaved
(A B C A B C). Before its first turn each delivery is warmed up by as many requests as run at once, without a clock:
memory is sampled then.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec

from mmplane.bench import meters, turns
from mmplane.bench.arrivals import poisson_s
from mmplane.bench.figures import Row, Setting, Turn, row
from mmplane.bench.making import Made, made
from mmplane.bench.meters import Memory
from mmplane.bench.server import Refused, Server, serving
from mmplane.bench.workloads import Load, Workload

DELIVERIES = (
    "original",
    "leader",
    "leader-batch",
    "leader-async",
    "delayed",
    "delayed-async",
    "eager",
    "eager-compact",
    "arena",
    "auto",
)
CACHED = ("arena", "auto")
"""Their cache is on unless asked otherwise; that of the others is off."""
REPETITIONS = 3
OPEN_CONNECTIONS = 64
MEMORY_SECONDS = 1.5
CYCLES_MAX = 50
STALL_SECONDS = 120
"""For the servers: a baseline that holds its loop up is to be measured, not replaced."""


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
    flags: tuple[str, ...] = ()
    """Further flags of `mmplane serve`."""

    def variants(self) -> list[tuple[str, bool]]:
        """Deliveries with their cache on or off, in order."""
        return [(name, cache) for name in self.deliveries for cache in (self.cache or (name in CACHED,))]


class Progress:
    """Who watches a campaign; this one does not."""

    def stage(self, text: str, total: int) -> None:
        """Something with so many parts begins."""

    def tick(self) -> None:
        """One part is done."""

    def say(self, text: str) -> None:
        """Something to know."""


class Outcome(msgspec.Struct):
    """What a campaign found."""

    rows: list[Row] = msgspec.field(default_factory=list)
    skipped: list[dict[str, str]] = msgspec.field(default_factory=list)
    memory: list[dict[str, object]] = msgspec.field(default_factory=list)
    transforms_ms: dict[str, list[float]] = msgspec.field(default_factory=dict)
    """What transformers' own processor took for items, by workload, on the cores that made them."""


def measure(workload: Workload, tp: int, options: Options, outcome: Outcome, progress: Progress) -> None:
    """Add the rows of one workload with one number of ranks."""
    count = options.requests or workload.requests
    load = workload.make(count, options.tokens or workload.tokens)
    items = _made(load, options.model_folder, workload.name, outcome, progress)
    progress.stage(f"starting a server with {tp} ranks", 1)
    flags = [*workload.flags, "--runner", options.runner, "--stall-seconds", str(STALL_SECONDS), *options.flags]
    with serving(options.model_folder, tp=tp, flags=flags) as server:
        progress.tick()
        Bench(server, workload, load, items, options, outcome, progress).run()


class Bench:
    """All deliveries of one workload on one server."""

    def __init__(
        self,
        server: Server,
        workload: Workload,
        load: Load,
        items: list[Made],
        options: Options,
        outcome: Outcome,
        progress: Progress,
    ) -> None:
        self._server = server
        self._workload = workload
        self._load = load
        self._items = items
        self._options = options
        self._outcome = outcome
        self._progress = progress
        self._concurrency = options.concurrency or workload.concurrency
        self._memory: dict[tuple[str, bool], list[Memory]] = {}
        self._turns: dict[tuple[str, bool], list[Turn]] = {}

    def run(self) -> None:
        """Warm up, take turns, add the rows."""
        idle = meters.memory(self._server)
        variants = [variant for variant in self._options.variants() if self._switch(*variant)]
        for repetition in range(self.repetitions):
            for variant in variants:
                self._switch(*variant)
                if repetition == 0:
                    self._warm_up(variant)
                self._turn(variant, repetition)
        for variant in variants:
            setting = self._setting(*variant)
            self._outcome.rows.append(row(setting, self._turns[variant], self._memory[variant], idle))

    @property
    def repetitions(self) -> int:
        """As many as asked for, but each must keep all connections busy."""
        return repetitions_of(len(self._load.requests), self._concurrency, self._options.repetitions)

    def _switch(self, delivery: str, cache: bool) -> bool:
        try:
            self._server.switch(delivery, cache=cache)
        except Refused as why:
            skipped = {"delivery": delivery, "workload": self._workload.name, "why": str(why)}
            self._outcome.skipped.append(skipped)
            self._progress.say(f"{delivery}: {why}")
            return False
        return True

    def _warm_up(self, variant: tuple[str, bool]) -> None:
        """As many requests as run at once; again, if they were over before memory could be sampled."""
        requests = self._load.requests[: self._concurrency]
        self._progress.stage(f"{self._workload.name}: warming up {_named(variant)}", len(requests))
        plan = turns.Plan(requests, self._load.background, self._concurrency)
        with meters.watched(self._server) as samples:
            results = turns.send(self._server, plan, self._items, self._note("warm", variant), self._progress.tick)
        if results.wall_s < MEMORY_SECONDS:
            cycles = min(CYCLES_MAX, ceil(MEMORY_SECONDS / results.wall_s))
            plan = msgspec.structs.replace(plan, cycles=cycles)
            with meters.watched(self._server) as samples:
                turns.send(self._server, plan, self._items, self._note("memory", variant), lambda: None)
        self._memory[variant] = samples
        self._keep(variant, samples)

    def _turn(self, variant: tuple[str, bool], repetition: int) -> None:
        requests = self._load.requests[repetition :: self.repetitions]
        options = self._options
        label = f"{self._workload.name}: {_named(variant)}, {repetition + 1} of {self.repetitions}"
        self._progress.stage(label, len(requests))
        seed = options.seed + repetition  # the same arrivals for every delivery
        arrivals = poisson_s(len(requests), options.rate, seed) if options.rate else None
        concurrency = OPEN_CONNECTIONS if arrivals else self._concurrency
        plan = turns.Plan(requests, self._load.background, concurrency, arrivals)
        taken = turns.take(self._server, plan, self._items, self._note(str(repetition), variant), self._progress.tick)
        self._turns.setdefault(variant, []).append(taken)
        self._keep(variant, [meters.memory(self._server)])

    def _keep(self, variant: tuple[str, bool], samples: Sequence[Memory]) -> None:
        where = {"workload": self._workload.name, "tp": self._server.tp, "delivery": variant[0], "cache": variant[1]}
        self._outcome.memory += [where | msgspec.structs.asdict(each) for each in samples]

    def _note(self, turn: str, variant: tuple[str, bool]) -> str:
        return f"{self._options.seed}/{turn}/{_named(variant)}"

    def _setting(self, delivery: str, cache: bool) -> Setting:
        rate = self._options.rate
        return Setting(
            delivery=delivery,
            workload=self._workload.name,
            tp=self._server.tp,
            concurrency=None if rate else self._concurrency,
            rate=rate,
            runner=self._options.runner,
            cache=cache,
        )


def repetitions_of(requests: int, concurrency: int, wanted: int) -> int:
    """How often to repeat: at most as wanted, at least once, and never with fewer requests than run at once."""
    return max(1, min(wanted, requests // max(1, concurrency)))


def _named(variant: tuple[str, bool]) -> str:
    return f"{variant[0]} (cache {'on' if variant[1] else 'off'})"


def _made(load: Load, model_folder: str, name: str, outcome: Outcome, progress: Progress) -> list[Made]:
    progress.stage(f"{name}: making {len(load.sources)} items", len(load.sources))
    items = []
    for item in made(load.sources, model_folder):
        items.append(item)
        progress.tick()
    outcome.transforms_ms[name] = [item.transform_ms for item in items if item.transform_ms]
    return items
