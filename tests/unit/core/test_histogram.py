"""The histogram: percentiles at most 5 % high, differences, merging, and a record of it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.core.histogram import BUCKET_MAX, GROWTH, Distribution, Histogram, bucket_of, edge_ms, merged

DURATIONS = st.lists(st.floats(0.002, 200_000), min_size=1, max_size=50)


def distribution_of(durations_ms: list[float]) -> Distribution:
    histogram = Histogram()
    for duration_ms in durations_ms:
        histogram.add(duration_ms)
    return histogram.distribution()


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_the_values_own_and_at_most_a_bucket_high(durations_ms: list[float], share: float) -> None:
    found = distribution_of(durations_ms).quantile_ms(share)
    ordered = sorted(durations_ms)
    exact = next(value for at, value in enumerate(ordered, 1) if at >= share * len(ordered))
    assert found is not None
    assert exact * (1 - 1e-6) <= found <= exact * GROWTH * (1 + 1e-6)


@given(DURATIONS, DURATIONS)
def test_what_came_since_is_the_difference(earlier: list[float], later: list[float]) -> None:
    histogram = Histogram()
    for duration_ms in earlier:
        histogram.add(duration_ms)
    before = histogram.distribution()
    for duration_ms in later:
        histogram.add(duration_ms)
    since = histogram.distribution().since(before)
    assert since.counts == distribution_of(later).counts
    assert since.total_ms == pytest.approx(sum(later))


def test_a_reading_of_another_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="earlier reading"):
        distribution_of([1.0]).since(distribution_of([2.0]))


def test_merged_counts_all() -> None:
    both = merged([distribution_of([1.0, 5.0]), distribution_of([5.0])])
    assert both.count == 3
    assert both.counts == distribution_of([1.0, 5.0, 5.0]).counts


def test_nothing_has_no_quantile() -> None:
    assert Distribution().quantile_ms(0.5) is None
    assert merged([]).count == 0


def test_the_shortest_and_the_longest_have_a_bucket() -> None:
    assert bucket_of(0.0) == bucket_of(-1.0) == 0
    assert bucket_of(1e12) == BUCKET_MAX
    assert edge_ms(BUCKET_MAX) > 5 * 60 * 1000 * 0.9


def test_it_is_a_record() -> None:
    found = distribution_of([0.5, 3.0])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Distribution) == found
