"""The clock of a rank's loop: how long something other than the model blocked it.

A turn of the loop is a *stall* for as long as it neither waited nor computed. What remains is work for media, records
and plans, during which no other request makes progress. What a model would do beside a GPU (a step, reading the
features) is `outside`. Turns in which nothing happened do not count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from mmplane.core.histogram import Histogram
from mmplane.core.plan import LoopReport
from mmplane.delivery.meter import Meter
from mmplane.process.heart import Heart

REPORT_SECONDS = 0.5


class LoopClock:
    """Measures one rank's loop. Only the loop calls it, except `verify`, which threads call too.

    `meter` measures the time of collectives, which is in the same report.
    """

    def __init__(
        self,
        rank: int,
        meter: Meter | None = None,
        *,
        heart: Heart | None = None,
        now_s: Callable[[], float] = time.perf_counter,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._rank = rank
        self._now_s = now_s
        self._cpu_s = cpu_s
        self._heart = heart
        self._stalls = Histogram()
        self._meter = meter or Meter()
        self._collectives = 0
        """The number of collectives that have been reported."""
        self._lock = threading.Lock()
        self._verify_cpu_s = 0.0
        self._began_s = now_s()
        self._outside_s = 0.0
        self._depth = 0
        self._worked = False
        self._changed = False
        self._reported_s = 0.0

    def turn(self) -> None:
        """A turn of the loop begins. The previous one is counted if it did anything."""
        now_s = self._now_s()
        if self._worked:
            self._stalls.add((now_s - self._began_s - self._outside_s) * 1000)
            self._changed = True
        self._began_s, self._outside_s, self._worked = now_s, 0.0, False

    def worked(self) -> None:
        """This turn counts, because it has handled a plan or an item."""
        self._worked = True

    @contextmanager
    def outside(self) -> Iterator[None]:
        """A block of waiting, or of computing by a model, which is no stall. Nested blocks count once."""
        began_s = self._now_s()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._outside_s += self._now_s() - began_s

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Like `outside`, in which the loop cannot send heartbeats, so its heart does."""
        with self.outside(), self._heart.computing() if self._heart else nullcontext():
            yield

    @contextmanager
    def verify(self) -> Iterator[None]:
        """A block of computing digests, in a thread. Its CPU time is separate, so that measurements can exclude it."""
        began_s = self._cpu_s()
        yield
        with self._lock:
            self._verify_cpu_s += self._cpu_s() - began_s
            self._changed = True

    def due(self) -> bool:
        """Whether there is something new to report and the last report is old enough."""
        changed = self._changed or self._meter.count != self._collectives
        return changed and self._now_s() - self._reported_s >= REPORT_SECONDS

    def report(self) -> LoopReport:
        """Everything since the rank started."""
        self._reported_s = self._now_s()
        with self._lock:
            self._changed = False
            verify_cpu_s = self._verify_cpu_s
        self._collectives = self._meter.count
        durations, collectives = self._meter.durations(), self._meter.report()
        return LoopReport(self._rank, self._stalls.distribution(), durations, verify_cpu_s, collectives)
