"""A soak test: repeats the same load for a given time and checks that memory, descriptors and threads stay flat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from statistics import linear_regression, median
from typing import Any

import msgspec

from mmplane.bench.inputs.workloads import Workload
from mmplane.bench.run import meters, turns
from mmplane.bench.run.campaign import Outcome, made_items, plan_of
from mmplane.bench.run.meters import Memory
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.server import serving
from mmplane.bench.run.settings import Options

SAMPLES_MAX = 400
FLAT_SHARE = 0.02
"""Growth of memory at rest, from the first to the last quarter of the time, that still counts as flat."""
DESCRIPTORS_SLACK = 4
"""Number of connections that the server may not have closed yet when it is sampled."""
THREADS_SLACK = 1
WARM_SHARE = 0.25
"""Share of the time at the beginning in which allocators and caches fill and nothing is judged."""


def soak(
    workload: Workload, tp: int, seconds: float, options: Options, outcome: Outcome, progress: Progress
) -> dict[str, Any]:
    """Run one delivery for this long and return the samples."""
    delivery, cache = options.variants()[0]
    count = options.requests or workload.requests
    load = workload.make(count, options.tokens or workload.tokens)
    items = made_items(load, options.model_folder, workload.name, outcome, progress)
    rest: list[Memory] = []
    samples: list[Memory] = []
    codes: Counter[str] = Counter()
    requests = 0
    with serving(options.model_folder, tp=tp, flags=options.server_flags(workload)) as server:
        server.switch(delivery, cache=cache)
        progress.stage(f"soak of {workload.name}, {delivery}: seconds", int(seconds))
        plan = plan_of(options, workload, load, load.requests, 0)
        began_s = time.monotonic()
        with meters.watched(server, max(1.0, seconds / SAMPLES_MAX)) as watched:
            while (passed_s := time.monotonic() - began_s) < seconds:
                results = turns.send(server, plan, items, f"{options.seed}/soak/{len(rest)}", lambda: None)
                answered = [sample for sample in results.samples if not sample.background]
                wrong = turns.wrong(results.samples, plan.requests, items, tp)
                codes.update(sample.code for sample in answered if sample.code is not None)
                codes.update({"wrong": len(wrong)} if wrong else {})
                requests += len(answered)
                turns.settled(server)
                rest.append(meters.memory(server))
                for _ in range(int(time.monotonic() - began_s) - int(passed_s)):
                    progress.tick()
        samples = watched
    return {
        "workload": workload.name,
        "delivery": delivery,
        "tp": tp,
        "seconds": seconds,
        "requests": requests,
        "errors": dict(codes),
        "samples": [msgspec.structs.asdict(each) for each in samples],
        "at_rest": [msgspec.structs.asdict(each) for each in rest],
        **flatness(rest),
    }


def flatness(rest: Sequence[Memory]) -> dict[str, Any]:
    """Return the growth of memory between loads, and whether memory, descriptors and threads are flat. Pure.

    The time in which allocators warm up is left out. Memory is flat if the median of its last quarter is at most 2 %
    above that of its first.
    """
    judged = list(rest[int(len(rest) * WARM_SHARE) :])
    if len(judged) < 4:
        return {"growth_bytes_per_hour": None, "growth_share": None, "flat": False, "why": "too short to say"}
    private = [each.private for each in judged]
    quarter = len(judged) // 4
    before, after = median(private[:quarter]), median(private[-quarter:])
    slope, _ = linear_regression([each.at_s for each in judged], private)
    ends = (judged[:quarter], judged[-quarter:])
    opened, started = (
        median(getattr(each, name) for each in ends[1]) - median(getattr(each, name) for each in ends[0])
        for name in ("descriptors", "threads")
    )
    share = (after - before) / before
    return {
        "growth_bytes_per_hour": slope * 3600,
        "growth_share": share,
        "descriptors_opened": opened,
        "threads_started": started,
        "flat": share <= FLAT_SHARE and opened <= DESCRIPTORS_SLACK and started <= THREADS_SLACK,
        "why": "",
    }
