"""A histogram of durations: small enough to be a record, precise enough for percentiles, and two can be subtracted.

Buckets grow by 5 %, so a percentile is at most 5 % too high. Counts only grow, so the difference of two readings is
what happened in between. Readers need not reset it, and there may be several readers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import ceil, log

from mmplane.core.buckets import BOUNDS_S, Reading
from mmplane.core.records import Count, Record

LOWEST_MS = 0.001
GROWTH = 1.05
BUCKET_MAX = 400
"""The last bucket, at five minutes; longer durations count there."""


class Distribution(Record, frozen=True):
    """Durations as (bucket, count) pairs in order of bucket, and their sum."""

    counts: tuple[tuple[Count, Count], ...] = ()
    total_ms: float = 0.0

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(count for _, count in self.counts)

    def since(self, earlier: Distribution) -> Distribution:
        """The durations added after `earlier`. Raises ValueError if it is not an earlier reading of this histogram."""
        left = Counter(dict(self.counts))
        left.subtract(dict(earlier.counts))
        if min(left.values(), default=0) < 0:
            raise ValueError("the earlier reading counts more than the later one")
        return Distribution(_pairs(left), self.total_ms - earlier.total_ms)

    def quantile_ms(self, share: float) -> float | None:
        """The duration that a `share` (0 to 1) of them does not exceed, at most 5 % too high; None without any."""
        wanted = max(1, ceil(share * self.count))
        seen = 0
        for bucket, count in self.counts:
            seen += count
            if seen >= wanted:
                return edge_ms(bucket)
        return None

    def reading(self, bounds_s: Sequence[float] = BOUNDS_S) -> Reading:
        """The same in fewer buckets. Durations within 5 % of a bound may count on its other side."""
        counts = [0] * (len(bounds_s) + 1)
        for bucket, count in self.counts:
            counts[bisect_left(bounds_s, edge_ms(bucket) / 1000)] += count
        return Reading(tuple(bounds_s), tuple(accumulate(counts)), self.total_ms / 1000)


class Histogram:
    """Counts durations."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total_ms = 0.0

    def add(self, duration_ms: float) -> None:
        """Count one duration."""
        self._counts[bucket_of(duration_ms)] += 1
        self._total_ms += duration_ms

    def distribution(self) -> Distribution:
        """All durations so far."""
        return Distribution(_pairs(self._counts), self._total_ms)


def merged(distributions: Iterable[Distribution]) -> Distribution:
    """The sum of several distributions."""
    counts: Counter[int] = Counter()
    total_ms = 0.0
    for each in distributions:
        counts.update(dict(each.counts))
        total_ms += each.total_ms
    return Distribution(_pairs(counts), total_ms)


def bucket_of(duration_ms: float) -> int:
    """The first bucket whose upper edge is not below the duration."""
    if duration_ms <= LOWEST_MS:
        return 0
    return min(BUCKET_MAX, ceil(log(duration_ms / LOWEST_MS) / log(GROWTH) - 1e-9))


def edge_ms(bucket: int) -> float:
    """A bucket's upper edge."""
    return LOWEST_MS * GROWTH**bucket


def _pairs(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    return tuple((bucket, count) for bucket, count in sorted(counts.items()) if count)
