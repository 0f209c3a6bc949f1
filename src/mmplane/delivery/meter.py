"""What one rank's object collectives took, and what D1's cache of results held."""

from __future__ import annotations

import threading
from collections import Counter

from mmplane.core.histogram import Distribution, Histogram
from mmplane.core.plan import Collectives


class Meter:
    """Counts from the start of the rank on. Called from the rank's loop and from the lane's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations = Histogram()
        self._batches: Counter[int] = Counter()
        self._pickle_s = self._wait_s = self._transfer_s = 0.0
        self._waiting_max = self._found = self._missed = 0

    def collective(self, payloads: int, *, pickle_s: float, wait_s: float, transfer_s: float) -> None:
        """One collective that carried so many payloads: pickling or reading them, waiting for the others, the bytes."""
        with self._lock:
            self._durations.add((pickle_s + transfer_s) * 1000)
            self._batches[payloads] += 1
            self._pickle_s += pickle_s
            self._wait_s += wait_s
            self._transfer_s += transfer_s

    def result_kept(self, waiting: int) -> None:
        """A result was put into D1's cache, which now holds so many."""
        self._waiting_max = max(self._waiting_max, waiting)

    def result_asked(self, *, found: bool) -> None:
        """A request has asked D1's cache for its result."""
        if found:
            self._found += 1
        else:
            self._missed += 1

    @property
    def count(self) -> int:
        """Collectives so far."""
        with self._lock:
            return self._batches.total()

    def durations(self) -> Distribution:
        """Of each collective, without the wait for the other ranks."""
        with self._lock:
            return self._durations.distribution()

    def report(self) -> Collectives:
        """All of it but the durations."""
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
