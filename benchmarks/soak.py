"""A soak at a share of what the server can do: memory, descriptors and threads flat, no error.

    python benchmarks/soak.py [--duration 1800] [--share 0.8] [--runner hf] [--tp 2] [--json FILE]

The workload is `mixed`: photographs arrive (Poisson) beside four streams of text. Capacity comes first: the photographs
in a closed loop beside the same streams. Then `mmplane.bench.run.soak` sends them at `--share` of that, in spells of
half a minute between which memory is looked at; every photograph's digests are checked on every rank.

Bias: the load generator shares the cores with the server, so the capacity is that of both together.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from msgspec.structs import replace

from mmplane.bench.inputs.making import made
from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.run import turns
from mmplane.bench.run.campaign import Outcome
from mmplane.bench.run.environment import environment
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.server import serving
from mmplane.bench.run.settings import Options
from mmplane.bench.run.soak import soak
from mmplane.models.tiny import ensure_tiny

MIXED = WORKLOADS["mixed"]
CAPACITY_REQUESTS = 96
SPELL_SECONDS = 30.0
SPELLS_MIN = 12
"""Memory is judged by the quarters of what is left when the first has warmed up: a short soak has shorter spells."""


def capacity(options: Options, tp: int) -> float:
    """Photographs in a second, in a closed loop beside the streams: of two turns the second."""
    load = MIXED.make(CAPACITY_REQUESTS, MIXED.tokens)
    items = list(made(load.sources, options.model_folder))
    plan = turns.TurnPlan(load.requests, load.background, MIXED.concurrency)
    with serving(options.model_folder, tp=tp, flags=[*MIXED.flags, *options.server_flags()]) as server:
        for note in ("warm", "capacity"):
            results = turns.send(server, plan, items, note, lambda: None)
    return CAPACITY_REQUESTS / results.wall_s


def main() -> int:
    """0 if all is flat and nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=1800.0, help="seconds")
    parser.add_argument("--share", type=float, default=0.8, help="of capacity")
    parser.add_argument("--runner", default="hf")
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        flags = ("--workers", str(len(os.sched_getaffinity(0))))
        options = Options(("arena",), str(ensure_tiny(Path(cache))), arguments.runner, flags=flags)
        most = capacity(options, arguments.tp)
        rate = arguments.share * most
        print(f"capacity {most:.2f} photographs/s beside the streams; soaking at {rate:.2f}/s", file=sys.stderr)
        spell_s = min(SPELL_SECONDS, arguments.duration / SPELLS_MIN)
        options = replace(options, rate=rate, requests=max(1, round(rate * spell_s)))
        found = soak(MIXED, arguments.tp, arguments.duration, options, Outcome(), Progress())
    found |= {"environment": environment(sys.argv[1:]), "capacity": most, "rate": rate}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    first, last = found["at_rest"][0], found["at_rest"][-1]
    print(
        f"{found['requests']} photographs in {found['seconds']:.0f} s, errors {found['errors'] or 'none'}; "
        f"memory {_percent(found['growth_share'])} over the judged time, descriptors {first['descriptors']} -> "
        f"{last['descriptors']}, threads {first['threads']} -> {last['threads']}: "
        f"{'flat' if found['flat'] else 'NOT FLAT ' + found['why']}"
    )
    return 0 if found["flat"] and not found["errors"] else 1


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:+.2%}"


if __name__ == "__main__":
    sys.exit(main())
