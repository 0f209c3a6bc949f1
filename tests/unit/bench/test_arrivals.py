"""Arrivals: a Poisson process that a seed decides."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mmplane.bench.inputs.arrivals import poisson_s


def test_one_seed_gives_one_process() -> None:
    assert poisson_s(50, 5.0, 7) == poisson_s(50, 5.0, 7) != poisson_s(50, 5.0, 8)


def test_the_rate_is_that_of_the_mean_gap_and_gaps_vary_as_an_exponential_does() -> None:
    arrivals = [0.0, *poisson_s(20_000, 4.0, 1)]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert min(gaps) > 0
    assert mean == pytest.approx(0.25, rel=0.03)
    assert variance**0.5 == pytest.approx(mean, rel=0.03)


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        poisson_s(1, 0.0, 0)
