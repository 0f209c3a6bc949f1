"""A histogram of durations with a few fixed buckets, as Prometheus expects it. Adding a duration is very cheap.

`mmplane.core.histogram` is finer and meant for comparing percentiles. This one is always on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Reading(NamedTuple):
    """Buckets at one moment: `below[i]` durations did not exceed `bounds_s[i]`; the last entry counts all of them."""

    bounds_s: tuple[float, ...]
    below: tuple[int, ...]
    total_s: float


class Buckets:
    """Counts each duration in the first bucket whose bound it does not exceed."""

    __slots__ = ("_bounds_s", "_counts", "_total_s")

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(bounds_s) + 1)
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._total_s += seconds

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of durations in each bucket; the last entry counts those above all bounds."""
        return tuple(self._counts)

    @property
    def total_s(self) -> float:
        """The sum of all durations."""
        return self._total_s

    def reading(self) -> Reading:
        """The current buckets."""
        return Reading(self._bounds_s, tuple(accumulate(self._counts)), self._total_s)
