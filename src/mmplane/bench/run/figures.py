"""Computes the rows of the contract from what was measured. Pure.

A *turn* is one delivery's share of a repetition. A row is all turns of one delivery. Percentiles are over all requests;
rates are medians over the turns, with their spread.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import msgspec

from mmplane.bench.run import carried
from mmplane.bench.run.carried import Collectives, Hashes
from mmplane.bench.run.generator import Sample
from mmplane.bench.run.meters import Memory
from mmplane.bench.run.server import ROLES, role_of
from mmplane.core.histogram import Distribution, merged

Row = dict[str, Any]
REFUSED = "overloaded"
"""The error code of a request that the server has no room or no time for: with its 503, or in a stream."""


class Turn(msgspec.Struct, frozen=True):
    """One delivery's share of one repetition, after the warm-up."""

    samples: tuple[Sample, ...]
    wall_s: float
    cpu_s: dict[str, float]
    verify_cpu_s: float
    """CPU time that the ranks spent on digests; it is part of `cpu_s` and is subtracted from a row's figures."""
    materialisations: int
    stalls: Distribution
    broadcasts: Distribution
    load_cpu_s: float
    load_lag_ms_max: float
    wrong: tuple[str, ...] = ()
    """Errors in the answers: digests that differ, and items that were mixed up."""
    cpu_s_by_process: dict[str, float] = {}
    busiest_thread: tuple[str, float] = ("", 0.0)
    """The name of the process whose thread used the most CPU, and that thread's seconds."""
    hashes: Hashes = Hashes()
    collectives: Collectives = Collectives()

    @property
    def foreground(self) -> list[Sample]:
        """The requests that count for rate and latency."""
        return [sample for sample in self.samples if not sample.background]

    def without_refused(self) -> Turn:
        """Return the turn without the requests that the server refused for lack of room."""
        samples = tuple(sample for sample in self.samples if sample.code != REFUSED)
        return msgspec.structs.replace(self, samples=samples)


class Label(msgspec.Struct, frozen=True):
    """The properties that all turns of a row share."""

    delivery: str
    workload: str
    tp: int
    concurrency: int | None
    rate: float | None
    runner: str
    cache: bool
    feature_hash: str = "none"
    """How its features were hashed, in whichever process."""
    ingress: str | None = None
    """Which ranks received its inline bytes; None if there are none."""
    setting: str | None = None
    """The named setting that the row belongs to (`mmplane.bench.run.settings`), or None."""
    pools: dict[str, int] = {}
    """How many items are materialised at once: `workers`, `leader_threads`, `delivery_threads`."""
    simulated_ms: int = 0
    """How long a simulated decoder takes for an item, without a core; 0 if the decoder is real."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` (0 to 1) of all values do not exceed (nearest rank), or None."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median, the smallest and the largest value."""
    if not values:
        return {"median": None, "min": None, "max": None}
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def row(
    label: Label,
    turns: Sequence[Turn],
    memory: Sequence[Memory],
    alone: Sequence[Memory],
    wrong_before: Sequence[str] = (),
) -> Row:
    """Compute one row. If there were errors, the row reports them and has no figures (`result` is false).

    In an open loop a refused request is not an error, because it arrives whether or not the server has room. The
    figures then cover the answered requests.
    """
    sent = sum(len(turn.foreground) for turn in turns)
    if label.rate is not None:
        turns = [turn.without_refused() for turn in turns]
    samples = [sample for turn in turns for sample in turn.foreground]
    errors = Counter(sample.code for sample in samples if sample.code is not None)
    wrong = [*wrong_before, *(text for turn in turns for text in turn.wrong)]
    head = {
        **msgspec.structs.asdict(label),
        "runner_note": runner_note(label.runner),
        "requests": sent,
        "refused": sent - len(samples),
        "repetitions": len(turns),
        "errors": sum(errors.values()) + len(wrong),
        "error_codes": dict(errors),
        "wrong": wrong[:10],
        "result": not errors and not wrong and all(turn.foreground for turn in turns),
    }
    if not head["result"]:
        return head
    figures = _figures(turns, samples, memory, alone)
    # The time that the simulated decoder stands for, in any process; no other figure includes it.
    simulated_s = figures["materialisations"] * label.simulated_ms / 1000
    return head | figures | {"simulated_cpu_s_per_request": simulated_s / len(samples)}


def runner_note(runner: str) -> str:
    """Describe the limits of the row's runner; empty if ranks compute with the model."""
    if runner == "null":
        return "null runner: ranks read the features and compute nothing"
    if runner.startswith("sim:"):
        return f"{runner} runner: a step takes {runner.removeprefix('sim:')} ms and computes nothing"
    return ""


def _figures(turns: Sequence[Turn], samples: list[Sample], memory: Sequence[Memory], alone: Sequence[Memory]) -> Row:
    latencies = [sample.latency_ms for sample in samples]
    rates = [len(turn.foreground) / turn.wall_s for turn in turns]
    peak = peak_bytes(memory)
    stalls = merged(turn.stalls for turn in turns)
    broadcasts = merged(turn.broadcasts for turn in turns)
    return {
        "qps": statistics.median(rates),
        "qps_spread": spread(rates),
        "latency_ms": {
            "mean": statistics.fmean(latencies),
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
            "max": max(latencies),
        },
        "latency_spread_ms": spread(
            [statistics.median(sample.latency_ms for sample in turn.foreground) for turn in turns]
        ),
        "inter_token_ms": summary(inter_token_ms(turns)),
        "cpu_s_per_request": cpu_s_per_request(turns),
        "cpu_spread_s": spread([sum(turn.cpu_s.values()) / len(turn.foreground) for turn in turns]),
        "verify_cpu_s_per_request": sum(turn.verify_cpu_s for turn in turns) / len(samples),
        "cpu_used": statistics.median([sum(turn.cpu_s.values()) / turn.wall_s for turn in turns]),
        "cpu_s_by_process": cpu_s_by_process(turns),
        "busiest_thread": busiest_thread(turns),
        "key_hit_rate": key_hit_rate(turns),
        "cache_hit_rate": cache_hit_rate(samples),
        "materialisations": sum(turn.materialisations for turn in turns),
        "materialise_ms": summary(_materialise_ms(samples)),
        "materialise_ms_by_rank": materialise_ms_by_rank(samples),
        "deliver_ms": summary(_deliver_ms(samples)),
        **carried.figures([turn.hashes for turn in turns], [turn.collectives for turn in turns], len(samples)),
        "broadcast_ms": {"p50": broadcasts.quantile_ms(0.5), "p99": broadcasts.quantile_ms(0.99)},
        "broadcast_total_ms_per_request": broadcasts.total_ms / len(samples),
        "loop_stall_ms": {
            "p50": stalls.quantile_ms(0.5),
            "p99": stalls.quantile_ms(0.99),
            "max": stalls.quantile_ms(1.0),
        },
        "loop_stall_total_ms": stalls.total_ms,
        "loop_stall_counts": stalls.counts,
        "bytes_written_per_request": statistics.fmean(_written_bytes(sample) for sample in samples),
        "features_bytes_per_request": statistics.fmean(_features_bytes(sample) for sample in samples),
        "stored_bytes_per_request": statistics.fmean(_stored_bytes(sample) for sample in samples),
        "peak_bytes": peak,
        "bytes_per_request_in_flight": bytes_per_request_in_flight(alone),
        "load": {
            "cpu_s_per_request": sum(turn.load_cpu_s for turn in turns) / len(samples),
            "busy": max(turn.load_cpu_s / turn.wall_s for turn in turns),
            "lag_ms_max": max(turn.load_lag_ms_max for turn in turns),
        },
        "stages_ms": {"p50": _stages(samples, 0.5), "p99": _stages(samples, 0.99)},
    }


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean, median and 99th percentile, or None without values."""
    mean = statistics.fmean(values) if values else None
    return {"mean": mean, "p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def cpu_s_per_request(turns: Sequence[Turn]) -> dict[str, float]:
    """CPU by role and in total, medians over the turns, without the digests that only this check needs."""
    each = [
        {role: (turn.cpu_s[role] - turn.verify_cpu_s * (role == "rank")) / len(turn.foreground) for role in ROLES}
        for turn in turns
    ]
    by_role = {role: statistics.median(figures[role] for figures in each) for role in ROLES}
    return by_role | {"total": statistics.median(sum(figures.values()) for figures in each)}


def cpu_s_by_process(turns: Sequence[Turn]) -> dict[str, float]:
    """CPU of each process by name, per request. The ranks' figures include the digests."""
    requests = sum(len(turn.foreground) for turn in turns)
    names = sorted({name for turn in turns for name in turn.cpu_s_by_process})
    return {name: sum(turn.cpu_s_by_process.get(name, 0.0) for turn in turns) / requests for name in names}


def busiest_thread(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return the process of the busiest thread and its share of the time, from the median turn.

    A share of 1 is one whole core: the incident's "CPU at 99.9 %" is this figure for a loop with one thread.
    """
    ordered = sorted(turns, key=lambda turn: turn.busiest_thread[1] / turn.wall_s)
    middle = ordered[len(ordered) // 2]
    name, seconds = middle.busiest_thread
    return {"role": role_of(name), "process": name, "share": seconds / middle.wall_s}


def bytes_per_request_in_flight(alone: Sequence[Memory]) -> int | None:
    """Memory of a request that is sent alone: the maximum minus what was held before, which is the first sample.

    It is at least the size of the features, because the arena's maximum counts from zero. A figure divided by all
    concurrent requests would be misleading: most of them wait and hold no features, so it would seem less than one
    copy.
    """
    if len(alone) < 2:
        return None
    return most_leased(alone) - most_leased(alone[:1])


def key_hit_rate(turns: Sequence[Turn]) -> float | None:
    """The share of items whose content key had been sent before in the same turn, which a perfect cache would find."""
    keys = [[item["content_key"] for item in _items(turn.foreground)] for turn in turns]
    count = sum(map(len, keys))
    return 1 - sum(len(set(each)) for each in keys) / count if count else None


def cache_hit_rate(samples: Sequence[Sample]) -> float | None:
    """The share of items that were not materialised for the request: a cache or another request had them."""
    hits = [item["cache_hit"] for item in _items(samples)]
    return sum(hits) / len(hits) if hits else None


def materialise_ms_by_rank(samples: Sequence[Sample]) -> dict[str, dict[str, float | None]]:
    """The time each rank spent on making a request's features, over the requests that it made itself."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for rank, work in enumerate((sample.trace or {}).get("ranks", ())):
            made = found.setdefault(str(rank), [])
            if work["materialised"]:
                made.append(work["materialise_ms"])
    return {rank: summary(made) for rank, made in found.items()}


def inter_token_ms(turns: Sequence[Turn]) -> list[float]:
    """Times between tokens: of the background streams if there are any, otherwise of the requests."""
    samples = [sample for turn in turns for sample in turn.samples]
    streams = [sample for sample in samples if sample.background] or samples
    return [
        (later - earlier) * 1000
        for sample in streams
        for earlier, later in zip(sample.token_s, sample.token_s[1:], strict=False)
    ]


def peak_bytes(memory: Sequence[Memory]) -> dict[str, int]:
    """The maximum of each role, of the arena, and of the total.

    The arena counts twice: as reserved (`arena`, in `total`) and as leased (`arena_leased`, in `total_leased`).
    """
    peak = {name: max((getattr(each, name) for each in memory), default=0) for name in (*ROLES, "arena", "total")}
    leased = max((each.arena_leased_max for each in memory), default=0)
    return peak | {"arena_leased": leased, "total_leased": most_leased(memory)}


def most_leased(memory: Sequence[Memory]) -> int:
    """The maximum of all processes together at one moment, and the maximum of the arena that requests ever held."""
    private = max((each.private for each in memory), default=0)
    return private + max((each.arena_leased_max for each in memory), default=0)


def _materialise_ms(samples: list[Sample]) -> list[float]:
    """Decode and transform time of each request in each process that did it, summed over its items."""
    found = []
    for sample in samples:
        trace = sample.trace or {}
        stages = trace.get("stages_ms", {})
        if "decode" in stages:
            found.append(stages["decode"] + stages.get("transform", 0.0))
        found += [rank["materialise_ms"] for rank in trace.get("ranks", ()) if rank["materialised"]]
    return found


def _deliver_ms(samples: list[Sample]) -> list[float]:
    """For each request, the slowest rank's time from its plan to its features, without making them.

    Hashing the features counts as making them.
    """
    return [
        max(rank["deliver_ms"] - rank["materialise_ms"] - rank["hash_ms"] for rank in sample.trace["ranks"])
        for sample in samples
        if sample.trace and sample.trace.get("items") and sample.trace.get("ranks")
    ]


def _items(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The traces of all items."""
    return [item for sample in samples for item in (sample.trace or {}).get("items", ())]


def _features_bytes(sample: Sample) -> int:
    """Bytes of all items in the form that the ranks' model takes."""
    return sum(map(_item_bytes, _items([sample])))


def _stored_bytes(sample: Sample) -> int:
    """Bytes of all items as stored in the arena or sent inline: encoded features, or the media itself."""
    return sum(item["bytes"] for item in _items([sample]))


def _item_bytes(item: dict[str, Any]) -> int:
    shape: list[int] = item["shape"]
    return prod(shape) * (2 if item["dtype"] in ("bfloat16", "float16") else 4)


def _written_bytes(sample: Sample) -> int:
    """Bytes of features that transforms wrote for this request, in all processes."""
    trace = sample.trace or {}
    items = trace.get("items", ())
    if not items:
        return 0
    front = 0 if any(rank["materialised"] for rank in trace["ranks"]) else sum(not item["cache_hit"] for item in items)
    made: int = front + sum(rank["materialised"] for rank in trace["ranks"])
    return int(_features_bytes(sample) * made // len(items))


def _stages(samples: list[Sample], share: float) -> Row:
    """Return the stages of the request with this percentile of latency: a real request, not a mean."""
    wanted = percentile([sample.latency_ms for sample in samples], share)
    found = next(sample for sample in samples if sample.latency_ms == wanted)
    return {"request": found.index, "latency_ms": wanted, **(found.trace or {}).get("stages_ms", {})}
