"""What this front end counts, and how Prometheus reads it. Every stateful class reports itself; this only collects."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
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
        workers = GaugeMetricFamily("mmplane_workers", "Workers by state", labels=["state"])
        for state, count in now["workers"]["states"].items():
            workers.add_metric([state], count)
        yield workers
        plans = GaugeMetricFamily("mmplane_plan_number", "Newest plan that a rank has applied", labels=["rank"])
        for report in (now["ranks"]["progress"] or {}).get("ranks", []):
            plans.add_metric([str(report["rank"])], report["number"])
        yield plans


def metrics(statistics: Callable[[], dict[str, Any]]) -> Callable[[], bytes]:
    """A function that gives Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposition(statistics))
    return lambda: generate_latest(registry)
