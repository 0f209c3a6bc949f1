"""Measures the lag of the front end's event loop: how long a due callback had to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mmplane.core.buckets import Buckets, Reading

INTERVAL_SECONDS = 0.1
"""Each look wakes a process that may be waiting for workers and ranks. At 20 ms, looks were a tenth of a request."""
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class LoopLag:
    """Measures as long as `run` runs."""

    def __init__(self) -> None:
        self._buckets = Buckets(BUCKETS_S)
        self._most_s = 0.0

    async def run(self, busy: Callable[[], Awaitable[object]]) -> None:
        """Run for ever. Sleeps until `busy` returns, which it does at once while the loop could be late."""
        while True:
            await busy()
            due_s = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self.note(max(0.0, time.monotonic() - due_s))

    def note(self, lag_s: float) -> None:
        """Record a lag."""
        self._buckets.add(lag_s)
        self._most_s = max(self._most_s, lag_s)

    def statistics(self) -> dict[str, Any]:
        """Counts by upper bound in seconds (the last one has none), their sum, and the maximum."""
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        counts = dict(zip(bounds, self._buckets.counts, strict=True))
        return {"buckets": counts, "sum_s": self._buckets.total_s, "max_s": self._most_s}

    def reading(self) -> Reading:
        """The histogram for Prometheus."""
        return self._buckets.reading()
