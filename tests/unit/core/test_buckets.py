"""Buckets count as Prometheus does: a duration is in the first bucket whose bound it does not exceed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.core.buckets import BOUNDS_S, Buckets
from mmplane.core.histogram import Histogram

SECONDS = st.lists(st.floats(0, 100, allow_nan=False), max_size=50)


@given(SECONDS)
def test_below_counts_what_does_not_exceed_each_bound(seconds: list[float]) -> None:
    buckets = Buckets()
    for each in seconds:
        buckets.add(each)
    reading = buckets.reading()
    assert reading.below == (*(sum(each <= bound for each in seconds) for bound in BOUNDS_S), len(seconds))
    assert reading.total_s == pytest.approx(sum(seconds))
    assert sum(buckets.counts) == len(seconds)


@given(SECONDS)
def test_a_fine_histogram_reads_the_same_but_for_its_own_width(seconds: list[float]) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each * 1000)
    reading = histogram.distribution().reading()
    for bound, below in zip(BOUNDS_S, reading.below, strict=False):
        assert sum(each <= bound / 1.06 for each in seconds) <= below <= sum(each <= bound * 1.001 for each in seconds)
    assert reading.below[-1] == len(seconds)
