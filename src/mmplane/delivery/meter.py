"""Measures one rank's object collectives, and D1's cache of results."""

from __future__ import annotations

import threading
from collections import Counter

from mmplane.core.histogram import Distribution, Histogram
from mmplane.core.plan import Collectives


class Meter:
    """Counts since the start of the rank. The rank's loop and the lane's thread call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations = Histogram()
        self._batches: Counter[int] = Counter()
        self._pickle_s = self._wait_s = self._transfer_s = 0.0
        self._waiting_max = self._found = self._missed = 0

    def collective(self, payloads: int, *, pickle_s: float, wait_s: float, transfer_s: float) -> None:
        """Count one collective with this many payloads: the time to pickle or read, to wait, and for the bytes."""
        with self._lock:
            self._durations.add((pickle_s + transfer_s) * 1000)
            self._batches[payloads] += 1
            self._pickle_s += pickle_s
            self._wait_s += wait_s
            self._transfer_s += transfer_s

    def result_kept(self, waiting: int) -> None:
        """Count a result that was put into D1's cache, which now holds this many."""
        self._waiting_max = max(self._waiting_max, waiting)

    def result_asked(self, *, found: bool) -> None:
        """Count a request that has asked D1's cache for its result."""
        if found:
            self._found += 1
        else:
            self._missed += 1

    @property
    def count(self) -> int:
        """The number of collectives so far."""
        with self._lock:
            return self._batches.total()

    def durations(self) -> Distribution:
        """The duration of each collective, without the wait for the other ranks."""
        with self._lock:
            return self._durations.distribution()

    def report(self) -> Collectives:
        """Everything except the durations."""
        with self._lock:
            return Collectives(
                batches=tuple(sorted(self._batches.items())),
                pickle_ms=self._pickle_s * 1000,
                wait_ms=self._wait_s * 1000,
                transfer_ms=self._transfer_s * 1000,
                results_max=self._waiting_max,
                results_found=self._found,
                results_missed=self._missed,
            )
