"""Overload: three times as much as the server can do, and what becomes of it (wanted: about as much as before).

    python benchmarks/overload.py [--workload photo] [--runner null] [--tp 2] [--seconds 15] [--rounds 3] [--json FILE]

First a closed loop finds about what the server can do. Then rounds: an open loop (Poisson) at 0.9, 1.0 and 1.1 times
that, of which the best goodput is the round's peak, and one at `--times` the peak. Goodput is right answers in a
second, counted from when the queues have filled (a quarter of the time) until the last request was sent; an answer is
right when the digests of its features, from every rank, are those of the picture that was sent. Of the overload:
goodput as a share of the peak, latency of what was accepted beside what bounds it (as many as may be in flight, at the
peak's rate), and how long refusals took.

Bias: the load generator shares the cores, and refused requests send their bodies all the same: on two cores that alone
costs goodput with `--runner null`, where the cores are what is short. `--runner sim:20` (each step takes 20 ms, as on a
device of its own) shows the admission alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmplane.bench.inputs.arrivals import poisson_s
from mmplane.bench.inputs.making import Made, made
from mmplane.bench.inputs.workloads import WORKLOADS, Load
from mmplane.bench.run import turns
from mmplane.bench.run.environment import environment
from mmplane.bench.run.generator import Sample
from mmplane.bench.run.server import Server, serving
from mmplane.config import Config
from mmplane.models.tiny import ensure_tiny

CLOSED = 24
"""Requests under way while the server's rate is guessed."""
AROUND = (0.9, 1.0, 1.1)
WARM_SHARE = 0.25
ITEMS = 64
REFUSED = 503


class Pitch:
    """A server, and a workload's requests to send it."""

    def __init__(self, server: Server, load: Load, items: list[Made], seconds: float) -> None:
        self._server = server
        self._load = load
        self._items = items
        self._seconds = seconds
        self._turn = 0

    def closed(self) -> float:
        """Requests in a second with `CLOSED` under way."""
        cycles = 2
        while True:
            results = turns.send(self._server, self._plan(cycles), self._items, self._note(), lambda: None)
            if results.wall_s > self._seconds / 3:
                return len(results.samples) / results.wall_s
            cycles *= 2

    def open(self, rate: float) -> dict[str, Any]:
        """What became of `rate` requests in a second."""
        count = max(1, round(rate * self._seconds))
        cycles = -(-count // len(self._load.requests))
        arrivals_s = poisson_s(cycles * len(self._load.requests), rate, self._turn)
        plan = self._plan(cycles, arrivals_s)
        results = turns.send(self._server, plan, self._items, self._note(), lambda: None)
        turns.settled(self._server)
        wrong = turns.wrong(results.samples, plan.requests, self._items, self._server.tp)
        return {"rate": rate, "wrong": wrong, **_figures(results.samples, arrivals_s[-1])}

    def _plan(self, cycles: int, arrivals_s: Sequence[float] | None = None) -> turns.TurnPlan:
        return turns.TurnPlan(self._load.requests, (), CLOSED, arrivals_s, cycles)

    def _note(self) -> str:
        self._turn += 1
        return f"overload/{self._turn}"


def _figures(samples: Sequence[Sample], last_s: float) -> dict[str, Any]:
    """Pure: goodput, latency of answers and of refusals."""
    from_s = last_s * WARM_SHARE
    answered = [sample for sample in samples if sample.status == 200 and sample.code is None]
    refused = [sample for sample in samples if sample.status == REFUSED]
    codes = Counter(f"{sample.status} {sample.code or ''}".strip() for sample in samples)
    return {
        "goodput": sum(from_s <= sample.done_s <= last_s for sample in answered) / (last_s - from_s),
        "outcomes": dict(codes),
        "accepted_s": _percentiles([sample.latency_ms / 1000 for sample in answered]),
        "refused_ms": _percentiles([sample.latency_ms for sample in refused]),
    }


def _percentiles(values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "max": round(max(values), 3)}


def measure(pitch: Pitch, rounds: int, times: float) -> dict[str, Any]:
    """Rounds of peak and overload."""
    guess = pitch.closed()
    print(f"closed loop: {guess:.1f} requests/s", file=sys.stderr)
    peaks, overloads = [], []
    for _ in range(rounds):
        tried = [pitch.open(guess * share) for share in AROUND]
        peaks.append(max(tried, key=lambda each: each["goodput"]))
        overloads.append(pitch.open(times * peaks[-1]["goodput"]))
        print(
            f"peak {peaks[-1]['goodput']:.1f}/s at {peaks[-1]['rate']:.1f}/s offered; at {overloads[-1]['rate']:.1f}/s "
            f"{overloads[-1]['goodput']:.1f}/s, accepted {overloads[-1]['accepted_s']} s, "
            f"refused {overloads[-1]['refused_ms']} ms, {overloads[-1]['outcomes']}",
            file=sys.stderr,
        )
    shares = [over["goodput"] / peak["goodput"] for peak, over in zip(peaks, overloads, strict=True)]
    return {
        "closed": guess,
        "peaks": peaks,
        "overloads": overloads,
        "share_of_peak": {"median": statistics.median(shares), "min": min(shares), "max": max(shares)},
        "accepted_bound_s": in_flight_max() / statistics.median(peak["goodput"] for peak in peaks),
    }


def in_flight_max() -> int:
    """Requests that a server with its defaults has in flight at most."""
    config = Config(model="", model_folder="", served_name="")
    return config.running_max + config.queue_max


def main() -> int:
    """0 if goodput under overload is within 15 % of the peak and nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="photo", choices=[name for name in WORKLOADS if name != "mixed"])
    parser.add_argument("--runner", default="null")
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    load = workload.make(ITEMS, workload.tokens)
    workers = str(len(os.sched_getaffinity(0)))
    flags = ["--runner", options.runner, "--workers", workers, "--stall-seconds", "30", *workload.flags]
    with tempfile.TemporaryDirectory() as cache:
        folder = str(ensure_tiny(Path(cache)))
        items = list(made(load.sources, folder))
        with serving(folder, tp=options.tp, flags=flags) as server:
            found = measure(Pitch(server, load, items, options.seconds), options.rounds, options.times)
    found |= {"environment": environment(sys.argv[1:]), "workload": workload.name, "runner": options.runner}
    share = found["share_of_peak"]
    refused_ms = [over["refused_ms"]["p99"] for over in found["overloads"] if over["refused_ms"]]
    print(
        f"{workload.name}, runner {options.runner}: at {options.times:g} times the peak, goodput is "
        f"{share['median']:.0%} of the peak ({share['min']:.0%} to {share['max']:.0%}); "
        f"accepted p99 {max(over['accepted_s']['p99'] for over in found['overloads']):.1f} s "
        f"(bound {found['accepted_bound_s']:.1f} s); "
        f"refused p99 {max([0.0, *refused_ms]):.0f} ms"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    wrong = [each for run in (*found["peaks"], *found["overloads"]) for each in run["wrong"]]
    return 0 if share["median"] >= 0.85 and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
