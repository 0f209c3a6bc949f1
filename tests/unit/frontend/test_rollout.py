"""The rollout: who gets which delivery, and when a trial ends by itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.frontend.send.rollout import ERRORS_MARGIN, P99_FACTOR, RESULTS_MIN, Cause, Rollout


def trying(*, share: float = 0.5, rollback_on: tuple[Cause, ...] = ("errors", "p99")) -> Rollout:
    rollout = Rollout("arena", rollback_on=rollback_on)
    rollout.put("eager", share)
    return rollout


def state(rollout: Rollout) -> tuple[str, str | None, float]:
    return rollout.settled, rollout.trial, rollout.share


def test_the_table() -> None:
    rollout = Rollout("arena")
    assert state(rollout) == ("arena", None, 0.0)
    rollout.put("eager", 0.25)
    assert state(rollout) == ("arena", "eager", 0.25)
    rollout.put("leader", 0.5)
    assert state(rollout) == ("arena", "leader", 0.5)
    rollout.put("leader", 0.0)
    assert state(rollout) == ("arena", "leader", 0.0)
    rollout.put("leader", 1.0)
    assert state(rollout) == ("leader", None, 0.0)
    rollout.put("arena", 0.5)
    rollout.put("leader", 0.1)  # the settled one by name: the trial is over
    assert state(rollout) == ("leader", None, 0.0)


@given(st.floats(0.0, 0.999), st.integers(0, 300), st.integers(1, 300))
def test_of_any_requests_in_a_row_the_trial_gets_its_share(share: float, first: int, count: int) -> None:
    rollout = trying(share=share)
    chosen = [rollout.choose() for _ in range(first + count)][first:]
    assert abs(chosen.count("eager") - share * count) < 1 + 1e-6
    assert set(chosen) <= {"arena", "eager"}


def results(rollout: Rollout, name: str, count: int, *, latency_ms: float = 10.0, failures: int = 0) -> list[Cause]:
    causes = [rollout.ended(name, latency_ms, failed=number < failures) for number in range(count)]
    return [cause for cause in causes if cause is not None]


def test_errors_end_a_trial_as_soon_as_there_are_enough_results() -> None:
    rollout = trying()
    assert not results(rollout, "arena", 100)
    assert not results(rollout, "eager", RESULTS_MIN - 1, failures=RESULTS_MIN - 1)
    assert rollout.ended("eager", 1.0, failed=True) == "errors"
    assert state(rollout) == ("arena", "eager", 0.0)
    assert (rollout.rolled_back, rollout.rollbacks) == ("errors", 1)
    assert {rollout.choose() for _ in range(50)} == {"arena"}
    assert not results(rollout, "eager", 100, failures=100)
    assert rollout.rollbacks == 1


def test_few_results_of_the_usual_one_decide_nothing() -> None:
    rollout = trying()
    assert not results(rollout, "arena", RESULTS_MIN - 1)
    assert not results(rollout, "eager", 200, failures=200)
    assert results(rollout, "arena", 1) == ["errors"]


def test_errors_within_the_margin_are_no_reason() -> None:
    rollout = trying()
    results(rollout, "arena", 100)
    assert not results(rollout, "eager", 100 - int(100 * ERRORS_MARGIN))
    assert not results(rollout, "eager", int(100 * ERRORS_MARGIN), failures=100)


def test_a_slow_trial_ends() -> None:
    rollout = trying()
    results(rollout, "arena", 100, latency_ms=10.0)
    assert not results(rollout, "eager", RESULTS_MIN - 1, latency_ms=10.0 * P99_FACTOR + 1)
    assert rollout.ended("eager", 10.0 * P99_FACTOR + 1, failed=False) == "p99"
    assert rollout.rolled_back == "p99"


def test_a_trial_as_slow_as_allowed_goes_on() -> None:
    rollout = trying()
    results(rollout, "arena", 100, latency_ms=10.0)
    assert not results(rollout, "eager", 100, latency_ms=10.0 * P99_FACTOR)


@pytest.mark.parametrize("rollback_on", [(), ("errors",), ("p99",)])
def test_only_what_was_asked_for_rolls_back(rollback_on: tuple[Cause, ...]) -> None:
    slow, failing = trying(rollback_on=rollback_on), trying(rollback_on=rollback_on)
    for rollout in (slow, failing):
        results(rollout, "arena", 100)
    assert results(slow, "eager", 100, latency_ms=1000.0) == (["p99"] if "p99" in rollback_on else [])
    assert results(failing, "eager", 100, failures=100) == (["errors"] if "errors" in rollback_on else [])


def test_a_new_trial_begins_with_no_results() -> None:
    rollout = trying()
    results(rollout, "arena", 100)
    results(rollout, "eager", 100, failures=100)
    rollout.put("eager", 0.5)
    assert rollout.rolled_back is None
    assert not results(rollout, "eager", 100, failures=100)


def test_old_results_are_forgotten() -> None:
    rollout = trying()
    results(rollout, "arena", 20, failures=20)
    results(rollout, "arena", 400)
    assert results(rollout, "eager", 40, failures=20) == ["errors"]


@given(st.floats(0.01, 0.99))
def test_choices_are_spread(share: float) -> None:
    rollout = trying(share=share)
    at = [index for index in range(400) if rollout.choose() == "eager"]
    gaps = {later - earlier for earlier, later in pairwise(at)}
    assert not gaps or max(gaps) - min(gaps) <= 1
