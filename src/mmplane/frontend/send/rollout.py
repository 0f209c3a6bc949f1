"""Chooses the delivery of the next request: one for all, or another one for a share of them (C4).

    settled ──put(other, share)──> trying ──put(other, 1.0)──> settled on the other
       ^                             │
       └──────put(share 0), or worse─┘

The choice is made per request and is part of its record, so it takes effect in the plan that prepares the
request, on all ranks alike. Requests in flight finish with the delivery that they started with.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Cause = Literal["errors", "p99"]

WINDOW = 256
"""Number of results that are kept for each side of a trial."""
RESULTS_MIN = 20
"""Results needed on both sides before they are compared."""
ERRORS_MARGIN = 0.05
P99_FACTOR = 1.5


@dataclass
class Results:
    """Results of the last requests of one delivery."""

    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    failed: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, latency_ms: float, *, failed: bool) -> None:
        """Add a result. The duration of a failure is ignored."""
        self.failed.append(failed)
        if not failed:
            self.latencies_ms.append(latency_ms)

    @property
    def error_rate(self) -> float:
        """Failures among the last requests."""
        return sum(self.failed) / len(self.failed)

    @property
    def p99_ms(self) -> float:
        """The latency that one request in a hundred exceeds; with few results, the largest."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Rollout:
    """The delivery of all requests, and the one that is tried on a share of them."""

    def __init__(self, name: str, *, rollback_on: tuple[Cause, ...] = ()) -> None:
        self.settled = name
        self.trial: str | None = None
        self.share = 0.0
        self.rolled_back: Cause | None = None
        """Why the last trial was ended, if it was not ended manually."""
        self.rollbacks = 0
        self._rollback_on = rollback_on
        self._credit = 0.0
        self._results: dict[str, Results] = {}

    def put(self, name: str, share: float) -> None:
        """Send `share` (0.0 to 1.0) of new requests through `name`; 1.0 makes it the settled delivery."""
        self._results.clear()
        self._credit = 0.0
        self.rolled_back = None
        if share >= 1.0 or name == self.settled:
            self.settled, self.trial, self.share = name, None, 0.0
        else:
            self.trial, self.share = name, share

    def choose(self) -> str:
        """Return the next request's delivery. In any sequence of requests the trial gets its share, to within one."""
        if self.trial is None:
            return self.settled
        self._credit += self.share
        if self._credit < 1.0:
            return self.settled
        self._credit -= 1.0
        return self.trial

    def ended(self, name: str, latency_ms: float, *, failed: bool) -> Cause | None:
        """A request has ended. Return why the trial is rolled back, if it is. `failed`: by the server's fault."""
        if self.trial is None or not self.share:
            return None
        self._results.setdefault(name, Results()).add(latency_ms, failed=failed)
        cause = self._worse()
        if cause is not None:
            self.share = 0.0
            self.rolled_back = cause
            self.rollbacks += 1
        return cause

    def _worse(self) -> Cause | None:
        assert self.trial is not None
        tried, usual = self._results.get(self.trial), self._results.get(self.settled)
        if tried is None or usual is None:
            return None
        for cause in self._rollback_on:
            if cause == "errors":
                enough = min(len(tried.failed), len(usual.failed)) >= RESULTS_MIN
                worse = enough and tried.error_rate > usual.error_rate + ERRORS_MARGIN
            else:
                enough = min(len(tried.latencies_ms), len(usual.latencies_ms)) >= RESULTS_MIN
                worse = enough and tried.p99_ms > usual.p99_ms * P99_FACTOR
            if worse:
                return cause
        return None
