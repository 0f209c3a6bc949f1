"""What this front end counts, and how Prometheus reads it. Every stateful class reports itself; this only collects."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Counters:
    """Requests by status, those in flight, and tokens."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.now = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """One more request inside the block."""
        self.now += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.now -= 1
            if self.now == 0:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Until no request is in flight."""
        await self._idle.wait()

    def count(self, status: int) -> None:
        """A request has ended."""
        self.statuses[status] += 1

    def tokens(self, prompt: int, completion: int) -> None:
        """A request has been answered with this many."""
        self.prompt_tokens += prompt
        self.completion_tokens += completion

    def statistics(self) -> dict[str, Any]:
        """All of it."""
        return {
            "in_flight": self.now,
            "by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


class _Exposition(Collector):
    """Reads `statistics()` when scraped: nothing is counted twice, and an idle server does no metric work."""

    def __init__(self, statistics: Callable[[], dict[str, Any]]) -> None:
        self._statistics = statistics

    def describe(self) -> list[Metric]:
        """Nothing in advance: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, now."""
        now = self._statistics()
        requests = CounterMetricFamily(
            "mmplane_requests", "Requests that have ended, by HTTP status", labels=["status"]
        )
        for status, count in now["requests"]["by_status"].items():
            requests.add_metric([status], count)
        yield requests
        yield GaugeMetricFamily("mmplane_requests_in_flight", "Requests now", now["requests"]["in_flight"])
        yield CounterMetricFamily("mmplane_materialisations", "Items materialised", now["plane"]["materialisations"])
        yield CounterMetricFamily("mmplane_features_written_bytes", "Bytes of features", now["plane"]["bytes_written"])
        arena = now["arena"]
        states = GaugeMetricFamily("mmplane_arena_bytes", "Arena bytes by state", labels=["region", "state"])
        for region, figures in enumerate(arena["regions"]):
            for name in ("free", "writing", "unclaimed", "leased", "evictable", "quarantined"):
                states.add_metric([str(region), name], figures[f"{name}_bytes"])
        yield states
        yield GaugeMetricFamily("mmplane_arena_items", "Items indexed", arena["items"])
        yield GaugeMetricFamily("mmplane_arena_leases", "Leases now", arena["leases"])
        for name in ("hits", "misses", "evictions"):
            yield CounterMetricFamily(f"mmplane_arena_{name}", f"Arena {name}", arena[name])
        yield GaugeMetricFamily("mmplane_budget_reserved_bytes", "Budget reserved", now["budget"]["reserved_bytes"])
        lag = now["loop_lag"]
        cumulative = accumulate(lag["buckets"].values())
        yield HistogramMetricFamily(
            "mmplane_loop_lag_seconds",
            "How late the front end's event loop was",
            list(zip(lag["buckets"], cumulative, strict=True)),
            lag["sum_s"],
        )
        workers = GaugeMetricFamily("mmplane_workers", "Workers by state", labels=["state"])
        for state, count in now["workers"]["states"].items():
            workers.add_metric([state], count)
        yield workers
        plans = GaugeMetricFamily("mmplane_plan_number", "Newest plan that a rank has applied", labels=["rank"])
        for report in (now["ranks"]["progress"] or {}).get("ranks", []):
            plans.add_metric([str(report["rank"])], report["number"])
        yield plans
        yield from _deliveries(now["delivery"])


def _deliveries(delivery: dict[str, Any]) -> Iterator[Metric]:
    """By delivery, so that one that is being tried on a share of the requests can be compared with the usual one."""
    share = GaugeMetricFamily("mmplane_delivery_share", "Share of new requests", labels=["delivery"])
    share.add_metric([delivery["name"]], delivery["share"])
    if delivery["otherwise"] is not None:
        share.add_metric([delivery["otherwise"]], 1.0 - delivery["share"])
    yield share
    yield CounterMetricFamily("mmplane_delivery_rollbacks", "Trials ended by --rollback-on", delivery["rollbacks"])
    chosen = CounterMetricFamily("mmplane_delivery_auto", "Requests of auto, by why it picked", labels=["reason"])
    for reason, count in delivery["auto"].items():
        chosen.add_metric([reason], count)
    yield chosen
    requests = CounterMetricFamily(
        "mmplane_delivery_requests", "Requests that have ended", labels=["delivery", "outcome"]
    )
    latency = HistogramMetricFamily("mmplane_delivery_latency_seconds", "Answered requests", labels=["delivery"])
    sums = {
        "materialisations": "Items materialised, summed over processes",
        "materialise_seconds": "Time spent on that, summed over processes",
        "deliver_seconds": "From the step that names a request until its slowest rank has the features",
    }
    totals = {
        name: CounterMetricFamily(f"mmplane_delivery_{name}", text, labels=["delivery"]) for name, text in sums.items()
    }
    for name, tally in delivery["by_name"].items():
        for outcome, count in tally["outcomes"].items():
            requests.add_metric([name, outcome], count)
        below, buckets = 0, []
        for bound, count in tally["latency_buckets"]:
            below += count
            buckets.append((str(bound), below))
        buckets.append(("+Inf", tally["outcomes"].get("answered", 0)))
        latency.add_metric([name], buckets, tally["latency_s"])
        totals["materialisations"].add_metric([name], tally["materialisations"])
        totals["materialise_seconds"].add_metric([name], tally["materialise_s"])
        totals["deliver_seconds"].add_metric([name], tally["deliver_s"])
    yield requests
    yield latency
    yield from totals.values()


def metrics(statistics: Callable[[], dict[str, Any]]) -> Callable[[], bytes]:
    """A function that gives Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposition(statistics))
    return lambda: generate_latest(registry)
