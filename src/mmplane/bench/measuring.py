"""What `mmplane bench` measures with servers of its own: a campaign, a soak or timelines, and how peers do it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import msgspec

from mmplane.bench.inputs.workloads import Workload
from mmplane.bench.micro.handover import ROUNDS, peers
from mmplane.bench.micro.vllm_carriers import vllm_peers
from mmplane.bench.run import campaign
from mmplane.bench.run.campaign import Outcome
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.settings import Options
from mmplane.bench.run.soak import soak
from mmplane.bench.run.timelines import timelines

PEER_BYTES = 31_500_000
"""Size of the features that peers hand over, the same as in the figures of the documents."""


def measure(
    options: argparse.Namespace,
    parts: list[tuple[Workload, int, Options]],
    stamp: dict[str, Any],
    keep: Callable[[dict[str, Any]], None],
    progress: Progress,
) -> dict[str, Any]:
    """The run as it is written to JSON, with `stamp` as its environment. `keep` takes what is known after each part."""
    outcome = Outcome()
    more: dict[str, Any] = {}

    def found() -> dict[str, Any]:
        return {"environment": stamp, **msgspec.structs.asdict(outcome), **more}

    workload, tp, how = parts[0]
    if options.duration:
        more["soak"] = soak(workload, tp, options.duration, how, outcome, progress)
    elif options.timelines:
        more["timelines"] = timelines(workload, tp, how, progress)
    else:
        for workload, tp, how in parts:
            campaign.measure(workload, tp, how, outcome, progress)
            keep(found())
    if options.peer:
        tps = list(dict.fromkeys(tp for _, tp, _ in parts))
        progress.stage("peers: handing features over", len(tps))
        more["peers"] = peers(PEER_BYTES, tps, tick=progress.tick)
        if options.vllm_python is not None:
            more["peers"] += vllm_peers(options.vllm_python, PEER_BYTES, tps, ROUNDS)
    return found()
