"""The byte budget: what is reserved comes back whatever happens, and the rest is refused before any work."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from mmplane.core.errors import RequestError
from mmplane.frontend.admission import Budget, BudgetStatistics, Reservation


def refused(budget: Budget, length_bytes: int) -> RequestError:
    with pytest.raises(RequestError) as error:
        budget.reserve(length_bytes)
    return error.value


def test_bytes_are_held_inside_the_block() -> None:
    budget = Budget(100)
    with budget.reserve(60), budget.reserve(40):
        assert budget.statistics() == BudgetStatistics(100, reserved_bytes=100, peak_bytes=100, refused=0)
    assert budget.statistics() == BudgetStatistics(100, reserved_bytes=0, peak_bytes=100, refused=0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_they_come_back_when_the_block_fails(error: type[BaseException]) -> None:
    budget = Budget(100)
    with pytest.raises(error), budget.reserve(100):
        raise error
    assert budget.statistics().reserved_bytes == 0


def test_they_may_come_back_earlier_and_come_back_once() -> None:
    budget = Budget(100)
    with budget.reserve(30), budget.reserve(60) as reserved:
        for _ in range(2):
            reserved.release()
        assert budget.statistics().reserved_bytes == 30
    assert budget.statistics().reserved_bytes == 0


def test_a_burst_is_told_to_come_again() -> None:
    budget = Budget(100)
    with budget.reserve(60):
        error = refused(budget, 41)
        assert (error.status, error.retry_after_s) == (503, 1)
        with budget.reserve(40):
            pass
    with budget.reserve(41):
        assert budget.statistics().refused == 1


def test_what_never_fits_is_told_so_even_when_the_budget_is_empty() -> None:
    budget = Budget(100)
    error = refused(budget, 101)
    assert (error.status, error.retry_after_s) == (413, None)
    with budget.reserve(100):
        assert refused(budget, 101).status == 413
    assert budget.statistics().refused == 2


def test_nothing_takes_nothing() -> None:
    with Budget(0).reserve(0):
        pass
    with pytest.raises(AssertionError):
        Budget(1).reserve(-1)


@given(
    turns=strategies.lists(strategies.tuples(strategies.booleans(), strategies.integers(0, 60))),
    limit_bytes=strategies.integers(0, 100),
)
def test_it_never_holds_more_than_its_limit(turns: list[tuple[bool, int]], limit_bytes: int) -> None:
    budget = Budget(limit_bytes)
    held: list[tuple[Reservation, int]] = []
    for give_back, length_bytes in turns:
        if give_back and held:
            held.pop(length_bytes % len(held))[0].release()
        elif sum(each for _, each in held) + length_bytes <= limit_bytes:
            held.append((budget.reserve(length_bytes), length_bytes))
        else:
            assert refused(budget, length_bytes).status == (413 if length_bytes > limit_bytes else 503)
        statistics = budget.statistics()
        assert statistics.reserved_bytes == sum(each for _, each in held) <= statistics.peak_bytes <= limit_bytes
