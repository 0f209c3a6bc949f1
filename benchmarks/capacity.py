"""Does `mmplane plan` plan enough, and not far too much? Measures what one item takes, plans, serves, compares.

    python benchmarks/capacity.py [--workload photo] [--share 0.5] [--seconds 30] [--tp 2] [--runner null] [--json FILE]

1. A closed loop of a few requests at once: how long a worker takes for an item, bytes of its features, how long ranks
   hold it (from the traces), and how many requests this machine does in a second.
2. A rate: `--share` of that.
3. `mmplane.capacity.plan` for that traffic, and a server with those flags and no others.
4. That traffic for `--seconds` (Poisson). Wanted: no refusal; and what was used at the peak, beside what was planned.

Bias: the load generator and the ranks share the cores, and the ranks hash all features, since every request asks for a
trace: more than half of the closed loop's rate is more than two cores can do evenly. Slots are sampled ten times a
second, so their peak is a lower bound; the budget's is exact.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from mmplane.bench.inputs.arrivals import poisson_s
from mmplane.bench.inputs.making import Made, made
from mmplane.bench.inputs.workloads import WORKLOADS, Load, render
from mmplane.bench.run import meters, turns
from mmplane.bench.run.environment import environment
from mmplane.bench.run.server import serving
from mmplane.capacity import Traffic, plan
from mmplane.models.tiny import ensure_tiny

AT_ONCE = 4
HELD = ("handoff", "admission", "deliver", "encode")
"""Stages in which an item's slot is held, beside those in which it is written."""
ITEMS = 48


def usual(folder: str, load: Load, items: list[Made], flags: list[str], tp: int) -> dict[str, float]:
    """What a few requests at once say: seconds and bytes of one item, and requests in a second."""
    with serving(folder, tp=tp, flags=flags) as server:
        for note in ("warm", "usual"):
            results = turns.send(server, turns.TurnPlan(load.requests, (), AT_ONCE), items, note, lambda: None)
    traces = [sample.trace for sample in results.samples if sample.trace is not None]
    stages = [trace["stages_ms"] for trace in traces]
    return {
        "requests_per_s": len(results.samples) / results.wall_s,
        "item_s": statistics.mean(each["decode"] + each["transform"] for each in stages) / 1000,
        "held_s": statistics.mean(sum(each.get(name, 0.0) for name in HELD) for each in stages) / 1000,
        "item_bytes": max(item["bytes"] for trace in traces for item in trace["items"]),
    }


def serve(folder: str, load: Load, items: list[Made], flags: list[str], tp: int, rate: float, seconds: float) -> Any:
    """What became of the traffic, and what the server used of what it has."""
    count = max(1, round(rate * seconds))
    cycles = -(-count // len(load.requests))
    arrivals_s = poisson_s(cycles * len(load.requests), rate, 1)
    with serving(folder, tp=tp, flags=flags) as server:
        turns.send(server, turns.TurnPlan(load.requests, (), AT_ONCE), items, "warm", lambda: None)
        worker_cpu_s = meters.cpu_s(server)["worker"]
        with meters.watched(server) as samples:
            arrivals = turns.TurnPlan(load.requests, (), 1, arrivals_s, cycles)
            results = turns.send(server, arrivals, items, "planned", lambda: None)
        worker_cpu_s = meters.cpu_s(server)["worker"] - worker_cpu_s
        statistics_ = server.statistics()
    return {
        "outcomes": dict(Counter(f"{sample.status} {sample.code or ''}".strip() for sample in results.samples)),
        "wrong": turns.wrong(results.samples, load.requests, items, tp),
        "latency_p99_s": statistics.quantiles([each.latency_ms / 1000 for each in results.samples], n=100)[98],
        "arena_peak_bytes": max(sample.arena_leased for sample in samples),
        "budget_peak_bytes": statistics_["budget"]["peak_bytes"],
        "workers_busy": worker_cpu_s / results.wall_s,
    }


def main() -> int:
    """0 if everything was answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="photo", choices=["photo", "4k", "many-small"])
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--runner", default="null")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    load = workload.make(ITEMS, workload.tokens)
    common = ["--runner", options.runner, "--stall-seconds", "30", *workload.flags]
    with tempfile.TemporaryDirectory() as cache:
        folder = str(ensure_tiny(Path(cache)))
        items = list(made(load.sources, folder))
        one = usual(folder, load, items, common, options.tp)
        source = load.sources[0]
        assert not isinstance(source, bytes)
        traffic = Traffic(
            requests_per_s=options.share * one["requests_per_s"],
            body_bytes=max(len(render(request, [item.media for item in items], b"")) for request in load.requests),
            item_bytes=int(one["item_bytes"]),
            decoded_bytes=6 * source.width * source.height,
            item_s=one["item_s"],
            held_s=one["held_s"],
        )
        planned = plan(traffic)
        flags = [*common, *planned.flags()]
        used = serve(folder, load, items, flags, options.tp, traffic.requests_per_s, options.seconds)
    print(f"one item: {1000 * one['item_s']:.1f} ms of a worker, held {1000 * one['held_s']:.0f} ms by the ranks")
    print(f"traffic: {traffic.requests_per_s:.1f} requests/s; planned: {' '.join(planned.flags())}")
    print(f"outcomes: {used['outcomes']}, p99 {used['latency_p99_s']:.2f} s, wrong: {used['wrong'] or 'none'}")
    slots_bytes = planned.slots_at_once * traffic.item_bytes
    print(f"{'':28}{'planned':>12}{'used at most':>14}")
    print(f"{'workers busy':28}{planned.utilisation * planned.workers:12.2f}{used['workers_busy']:14.2f}")
    print(f"{'slots in use, MB':28}{slots_bytes / 1e6:12.1f}{used['arena_peak_bytes'] / 1e6:14.1f}")
    print(f"{'budget, MB':28}{planned.budget_bytes / 1e6:12.1f}{used['budget_peak_bytes'] / 1e6:14.1f}")
    if options.json:
        found: dict[str, Any] = {"one": one, "rate": traffic.requests_per_s, "flags": planned.flags(), "used": used}
        options.json.write_text(json.dumps(found | {"environment": environment(sys.argv[1:])}, indent=1))
    return 0 if set(used["outcomes"]) == {"200"} and not used["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
