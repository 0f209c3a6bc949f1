"""Figures of a made-up server: two ranks, one worker, two deliveries, one of each thing that can go wrong."""

from __future__ import annotations

from typing import Any

from mmplane.core.buckets import Buckets, Reading
from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.exposition import Figures

MIB = 2**20


def region(**used: int) -> dict[str, int]:
    states = dict.fromkeys(("writing", "unclaimed", "leased", "evictable", "quarantined"), 0) | used
    free = 100 - sum(states.values())
    sizes = {f"{state}_bytes": mib * MIB for state, mib in (states | {"free": free, "length": 100}).items()}
    return sizes | {"largest_free_bytes": sizes["free_bytes"] // 2}


def reading(*seconds: float) -> Reading:
    buckets = Buckets()
    for each in seconds:
        buckets.add(each)
    return buckets.reading()


def figures(requests: int = 10, *, attached: bool = True) -> Figures:
    """After so many answered requests, each of which took 0.2 s and 0.01 s in every stage."""
    tally = {
        "outcomes": {"answered": requests, "failed": 1},
        "latency_s": 0.2 * requests,
        "materialisations": requests // 2,
        "materialise_s": 0.5,
        "deliver_s": 0.25,
        "feature_hashes": 8,
        "feature_hash_s": 0.2,
        "feature_hash_cpu_s": 0.1,
    }
    progress = {
        "number": 100 + requests,
        "running": 3,
        "waiting": 2,
        "kv_tokens": 512,
        "memory": {
            "total": 256,
            "used": 32,
            "idle": 64,
            "evicted": 5,
            "preemptions": 2,
            "reused_tokens": 320,
            "computed_tokens": 640,
        },
        "ranks": [
            {"rank": rank, "number": 100 + requests - 7 * rank, "digest": "00", "parcels": rank, "cached": 4}
            | {"kept_bytes": 8 * MIB, "passing_bytes": MIB}
            for rank in range(2)
        ],
    }
    lanes = {"starting": 0, "idle": 3, "busy": 1, "condemned": 0}
    machine = {"place": 2, "machine": "cpu-1", "lanes": 4, "items": 2 * requests}
    machine |= {"sent_bytes": MIB * requests, "received_bytes": 4 * MIB * requests}
    now: dict[str, Any] = {
        "build": {"version": "0.1.0", "python": "3.11.2"},
        "model": {"model": "tiny", "dtype": "float32", "tp": 2},
        "epoch": 2,
        "requests": {
            "in_flight": 5,
            "by_status": {"200": requests, "503": 1},
            "prompt_tokens": 20 * requests,
            "completion_tokens": 8 * requests,
        },
        "journal": {"phases": dict.fromkeys(PHASES, 0) | {"queue": 1, "generate": 4}}
        | {"encoder_runs": {"0": 4, "1": 4}, "embedding_hits": 6, "embedding_hits_needless": 1},
        "restarts": {"frontend": 1, "parser": 0, "worker": 2, "ranks": 0},
        "plane": {"materialisations": 5, "bytes_written": 5 * MIB, "retries": 3},
        "arena": {"regions": [region(leased=10), region(evictable=50, quarantined=1)], "items": 5, "leases": 3}
        | {"hits": 3 * requests, "misses": requests, "evictions": 1},
        "budget": {"limit_bytes": 64 * MIB, "reserved_bytes": 16 * MIB, "waiting": 1, "refused": 2},
        "workers": {"states": {"idle": 1, "busy": 1}, "waiting": 0, "jobs": 7, "condemned": 1}
        | {"lanes": lanes, "machines": [machine], "places": 2, "lost": 1},
        "copies": {"mirrors": 1, "copies_lacking": 2, "copied_bytes": MIB * requests},
        "ranks": {"attached": attached, "kv_tokens_max": 4096, "progress": progress if attached else None},
        "delivery": {"name": "leader", "share": 0.25, "otherwise": "arena", "rollbacks": 1}
        | {"by_name": {"arena": tally, "leader": tally}, "auto": {"room": 2}},
        "fetch": {"fetched": 3, "fetched_bytes": 300, "failed": 1},
        "traces_dropped": 1,
    }
    ranks = {(str(rank),): reading(0.001) for rank in range(2)}
    readings = {
        "requests": {("image", "answered"): reading(*[0.2] * requests)},
        "first_tokens": {("image",): reading(*[0.05] * requests)},
        "gaps": {(): reading(*[0.02] * 7 * requests)},
        "stages": {(stage, "answered"): reading(*[0.01] * requests) for stage in STAGES},
        "loop_lag": {(): reading(0.001)},
        "latency": {("arena",): reading(*[0.2] * requests)},
        **dict.fromkeys(("materialise", "deliver", "encode", "stalls", "broadcasts"), ranks),
    }
    counts = {
        "failures": {("overloaded", "queue"): 2},
        "aborts": {("generate",): 1},
        "tenants": {("alice", "answered"): requests},
        "cpu": {("rank", "0"): 2.5, ("rank", "1"): 1.5, ("supervisor", ""): 0.25},
        "resident": {("rank", "0", "private"): 300 * MIB, ("rank", "0", "shared"): 64 * MIB},
        "tenant_tokens": {("alice", "prompt"): 20 * requests, ("alice", "completion"): 8 * requests},
    }
    return Figures(now, counts, readings)
