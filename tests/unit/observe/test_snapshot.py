"""Two snapshots say what happened between them, restarts included."""

from __future__ import annotations

import pytest

from mmplane.observe.snapshot import Between, Snapshot


def snapshot(at_s: float, *lines: str) -> Snapshot:
    return Snapshot.of("\n".join(lines) + "\n", at_s)


def histogram(at_s: float, *counts: int) -> Snapshot:
    """Of bounds 0.1, 1 and none."""
    bounds = ("0.1", "1.0", "+Inf")
    lines = [f'x_seconds_bucket{{le="{bound}"}} {sum(counts[: i + 1])}' for i, bound in enumerate(bounds)]
    return snapshot(
        at_s, "# TYPE x_seconds histogram", *lines, f"x_seconds_count {sum(counts)}", f"x_seconds_sum {at_s}"
    )


def test_sums_and_labels() -> None:
    taken = snapshot(0, "# TYPE a gauge", 'a{x="1",y="p"} 2', 'a{x="2",y="p"} 3', 'a{x="1",y="q"} 4')
    assert taken.sum("a") == 9
    assert taken.sum("a", y="p") == 5
    assert taken.by("x", "a") == {"1": 6, "2": 3}
    assert taken.by("x", "a", y="q") == {"1": 4}
    assert taken.sum("b") == 0


def test_a_rate_is_by_second() -> None:
    between = Between(snapshot(10, "# TYPE a counter", "a_total 5"), snapshot(12, "# TYPE a counter", "a_total 11"))
    assert between.rate("a_total") == 3


def test_a_counter_that_fell_was_restarted() -> None:
    between = Between(snapshot(10, "# TYPE a counter", "a_total 500"), snapshot(12, "# TYPE a counter", "a_total 4"))
    assert between.rise("a_total") == 4


def test_a_histogram_between() -> None:
    between = Between(histogram(1, 5, 5, 5), histogram(4, 5, 8, 6))
    assert between.mean_s("x_seconds") == pytest.approx(3 / 4)
    assert between.quantile_s(0.5, "x_seconds") == 1.0
    assert between.quantile_s(0.99, "x_seconds") == float("inf")


def test_nothing_happened() -> None:
    between = Between(histogram(1, 5, 5, 5), histogram(1, 5, 5, 5))
    assert between.mean_s("x_seconds") is None
    assert between.quantile_s(0.5, "x_seconds") is None
    assert between.rate("x_seconds_count") == 0


def test_a_histogram_that_was_restarted() -> None:
    between = Between(histogram(1, 50, 50, 50), histogram(2, 1, 0, 0))
    assert between.quantile_s(0.5, "x_seconds") == 0.1


@pytest.mark.parametrize("text", ["a b c d", "<html>"])
def test_what_is_no_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Snapshot.of(text, 0.0)
