"""A campaign: workloads, servers and deliveries in turns, so that noise on the machine affects all of them alike.

One server runs all deliveries with a given number of ranks and is switched between turns. Repetitions are interleaved,
and each starts with a different delivery (A B C, B C A, C A B). Before its first turn, each delivery is warmed up with
one request at a time and then with as many as run at once, untimed and in fresh processes. Memory is sampled then.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import ceil
from statistics import median
from typing import Any

import msgspec

from mmplane.bench.inputs.arrivals import poisson_s
from mmplane.bench.inputs.checkpoints import roomy
from mmplane.bench.inputs.making import Made, apart, made, on_all_cores
from mmplane.bench.inputs.workloads import WORKLOADS, Load, Request, Workload
from mmplane.bench.micro.decoding import decode_cpu_ms
from mmplane.bench.micro.pickles import pickled
from mmplane.bench.micro.transforms import transforms
from mmplane.bench.run import meters, turns
from mmplane.bench.run.figures import Label, Row, Turn, row
from mmplane.bench.run.generator import Results
from mmplane.bench.run.meters import Memory
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.server import Refused, Server, serving
from mmplane.bench.run.settings import Options, Variant
from mmplane.delivery.ingress import ingress_of

OPEN_CONNECTIONS = 64
WARM_UP_MAX = 10
"""Requests of a warm-up that measures no memory."""
MEMORY_SECONDS = 1.5
CYCLES_MAX = 50
COMPARED = 4
"""Number of pictures for comparing the transforms, and of clips that are decoded alone."""


class Outcome(msgspec.Struct):
    """The results of a campaign."""

    rows: list[Row] = msgspec.field(default_factory=list)
    skipped: list[dict[str, str]] = msgspec.field(default_factory=list)
    memory: list[dict[str, object]] = msgspec.field(default_factory=list)
    transforms: list[dict[str, object]] = msgspec.field(default_factory=list)
    """The fast transform compared with transformers' own, by workload."""
    decoding: list[dict[str, object]] = msgspec.field(default_factory=list)
    """The cost of decoding a clip, by workload."""
    pickled: dict[str, Any] | None = None
    """Analysis A4, for a photograph and a clip."""


def measure(workload: Workload, tp: int, options: Options, outcome: Outcome, progress: Progress) -> None:
    """Add the rows of one workload with one number of ranks, and of its control."""
    with _model(workload, options) as folder:
        options = msgspec.structs.replace(options, model_folder=folder)
        load = workload.make(options.requests or workload.requests, options.tokens or workload.tokens)
        items = made_items(load, folder, workload.name, outcome, progress)
        progress.stage(f"starting a server with {tp} ranks", 1)
        with serving(folder, tp=tp, flags=options.server_flags(workload)) as server:
            progress.tick()
            parts = [Part(workload, load, options)]
            if workload.control is not None:
                control = WORKLOADS[workload.control]
                own = msgspec.structs.replace(options, rate=None, concurrency=control.concurrency)
                parts.append(Part(control, control.make(control.requests, control.tokens), own))
            Bench(server, parts, items, outcome, progress).run()


def _model(workload: Workload, options: Options) -> AbstractContextManager[str]:
    if workload.pixels_max is None:
        return nullcontext(options.model_folder)
    return roomy(options.model_folder, workload.pixels_max)


class Part(msgspec.Struct, frozen=True):
    """A workload in a campaign, with its requests and options."""

    workload: Workload
    load: Load
    options: Options

    @property
    def repetitions(self) -> int:
        """The requested number, but at least enough for all connections, and whole periods of the workload."""
        concurrency, rate = self.options.pace(self.workload)
        least = max(1 if rate else concurrency, self.workload.period)
        return repetitions_of(len(self.load.requests), least, self.options.repetitions)

    def requests(self, repetition: int) -> Sequence[Request]:
        """Requests of one repetition."""
        return split(self.load.requests, self.workload.period, self.repetitions, repetition)

    def label(self, delivery: str, cache: bool, tp: int) -> Label:
        """The labels of its rows."""
        concurrency, rate = self.options.pace(self.workload)
        return Label(
            delivery=delivery,
            workload=self.workload.name,
            tp=tp,
            concurrency=None if rate else concurrency,
            rate=rate,
            runner=self.options.runner,
            cache=cache,
            feature_hash="none" if delivery == "arena" else self.options.feature_hash,
            ingress=ingress_of(delivery, self.options.ingress),
            setting=self.options.setting,
            pools=self.options.pools.of(self.workload),
            simulated_ms=self.workload.simulation.ms if self.workload.simulation else 0,
        )


class Bench:
    """Measure all deliveries of one workload and its control on one server."""

    def __init__(
        self, server: Server, parts: list[Part], items: list[Made], outcome: Outcome, progress: Progress
    ) -> None:
        self._server = server
        self._parts = parts
        self._items = items
        self._outcome = outcome
        self._progress = progress
        self._memory: dict[Variant, list[Memory]] = {}
        self._alone: dict[Variant, list[Memory]] = {}
        """Sample memory before, and while one request at a time is sent."""
        self._wrong: dict[Variant, list[str]] = {}
        self._turns: dict[tuple[Variant, str], list[Turn]] = {}

    def run(self) -> None:
        """Warm up, take turns, and add the rows."""
        first = self._parts[0]
        variants = [variant for variant in first.options.variants() if self._switch(*variant)]
        for repetition in range(max(part.repetitions for part in self._parts)):
            for variant in rotated(variants, repetition):
                self._switch(*variant)
                if repetition == 0:
                    self._warm_up(first, variant)
                for part in self._parts:
                    if repetition < part.repetitions:
                        self._turn(part, variant, repetition)
        for part in self._parts:
            for variant in variants:
                taken = self._turns[variant, part.workload.name]
                label = part.label(*variant, self._server.tp)
                found = row(label, taken, self._memory[variant], self._alone[variant], self._wrong[variant])
                self._outcome.rows.append(found)

    def _switch(self, delivery: str, cache: bool) -> bool:
        try:
            self._server.switch(delivery, cache=cache)
        except Refused as why:
            skipped = {"delivery": delivery, "workload": self._parts[0].workload.name, "why": str(why)}
            self._outcome.skipped.append(skipped)
            return False
        return True

    def _warm_up(self, part: Part, variant: Variant) -> None:
        """Send some requests at once and check their answers; for memory as many as run at once, and one before."""
        concurrency, _ = part.options.pace(part.workload)
        requests = part.load.requests[: concurrency if part.options.memory else min(concurrency, WARM_UP_MAX)]
        self._progress.stage(f"{part.workload.name}: warming up {named(variant)}", 1 + len(requests))
        together, note = turns.TurnPlan(requests, part.load.background, concurrency), _note(part, "warm", variant)
        if part.options.memory:
            results = self._warm_up_fresh(part, variant, together, note)
        else:
            results = turns.send(self._server, together, self._items, note, self._progress.tick)
            self._memory[variant] = self._alone[variant] = []
        self._wrong[variant] = turns.wrong(results.samples, requests, self._items, self._server.tp)

    def _warm_up_fresh(self, part: Part, variant: Variant, together: turns.TurnPlan, note: str) -> Results:
        """Use fresh processes: an allocator keeps memory that an earlier delivery needed, which is not this one's."""
        self._server.renew()
        self._switch(*variant)
        idle = meters.memory(self._server)
        _, alone = self._watch(turns.TurnPlan(together.requests[:1], (), 1), _note(part, "alone", variant))
        results, self._memory[variant] = self._watch(together, note)
        self._alone[variant] = [idle, *alone]
        self._keep(part, variant, [idle, *alone, *self._memory[variant]])
        return results

    def _watch(self, plan: turns.TurnPlan, note: str) -> tuple[Results, list[Memory]]:
        """Sample memory while the plan is sent; repeat if it was over before a sample could be taken."""
        with meters.watched(self._server) as samples:
            results = turns.send(self._server, plan, self._items, note, self._progress.tick)
        if results.wall_s < MEMORY_SECONDS:
            cycles = min(CYCLES_MAX, ceil(MEMORY_SECONDS / results.wall_s))
            longer = msgspec.structs.replace(plan, cycles=cycles)
            with meters.watched(self._server) as samples:
                turns.send(self._server, longer, self._items, f"{note}/memory", lambda: None)
        return results, samples

    def _turn(self, part: Part, variant: Variant, repetition: int) -> None:
        requests = part.requests(repetition)
        label = f"{part.workload.name}: {named(variant)}, {repetition + 1} of {part.repetitions}"
        self._progress.stage(label, len(requests))
        plan = plan_of(part.options, part.workload, part.load, requests, repetition)
        note = _note(part, str(repetition), variant)
        taken = turns.take(self._server, plan, self._items, note, self._progress.tick)
        self._turns.setdefault((variant, part.workload.name), []).append(taken)
        self._keep(part, variant, [meters.memory(self._server)])

    def _keep(self, part: Part, variant: Variant, samples: Sequence[Memory]) -> None:
        where = {"workload": part.workload.name, "tp": self._server.tp, "delivery": variant[0], "cache": variant[1]}
        self._outcome.memory += [where | msgspec.structs.asdict(each) for each in samples]


def plan_of(
    options: Options, workload: Workload, load: Load, requests: Sequence[Request], repetition: int
) -> turns.TurnPlan:
    """The requests of a turn. The arrival times of an open loop are the same for every delivery."""
    concurrency, rate = options.pace(workload)
    if rate is None:
        return turns.TurnPlan(requests, load.background, concurrency, cycles=options.cycles)
    arrivals_s = poisson_s(len(requests) * options.cycles, rate, options.seed + repetition)
    return turns.TurnPlan(requests, load.background, OPEN_CONNECTIONS, arrivals_s, options.cycles)


def _note(part: Part, turn: str, variant: Variant) -> str:
    return f"{part.options.seed}/{turn}/{named(variant)}"


def repetitions_of(requests: int, concurrency: int, wanted: int) -> int:
    """The number of repetitions: at most the requested one, at least one, and never fewer requests than run at once."""
    return max(1, min(wanted, requests // max(1, concurrency)))


def rotated(variants: Sequence[Variant], repetition: int) -> list[Variant]:
    """The order of a repetition: each starts with a different one, so that no delivery always follows the same one."""
    first = repetition % max(1, len(variants))
    return [*variants[first:], *variants[:first]]


def split(requests: Sequence[Request], period: int, repetitions: int, repetition: int) -> list[Request]:
    """One repetition's share: every n-th run of `period` requests."""
    runs = [requests[at : at + period] for at in range(0, len(requests), period)]
    return [request for run in runs[repetition::repetitions] for request in run]


def named(variant: Variant) -> str:
    """The variant's name for people."""
    return f"{variant[0]} (cache {'on' if variant[1] else 'off'})"


def made_items(load: Load, model_folder: str, name: str, outcome: Outcome, progress: Progress) -> list[Made]:
    """The items of a load, and what is known of them before any server runs."""
    progress.stage(f"{name}: making {len(load.sources)} items", len(load.sources))
    items: list[Made] = []
    for item in made(load.sources, model_folder):
        items.append(item)
        progress.tick()
    known = [item for item in items if item.features_bytes]
    if known:
        progress.stage(f"{name}: decoding and transforms alone", 1)
        pictures = [item.media for item in known if item.kind == "image"][:COMPARED]
        if pictures:
            outcome.transforms.append({"workload": name} | apart(transforms, pictures, model_folder))
        clips = [item.media for item in known if item.kind == "video"][:COMPARED]
        if clips:
            found_ms = on_all_cores(decode_cpu_ms, clips, model_folder)
            outcome.decoding.append({"workload": name, "decode_cpu_ms": median(found_ms)})
        outcome.pickled = outcome.pickled or apart(pickled)
    return items
