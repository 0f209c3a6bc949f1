"""When a role may start again: the first restart at once, one delay for one incident, and failures in a row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmplane.process.restarts import BACKOFF_FIRST_S, BACKOFF_MAX_S, Restarts

ROLE = "the group of ranks"


def started(kind: type[Restarts] = Restarts, *, ready: bool = False) -> Restarts:
    restarts = kind()
    restarts.started(ROLE)
    if ready:
        restarts.ready(ROLE)
    return restarts


def check_one_incident(kind: type[Restarts] = Restarts) -> None:
    for size in (1, 2, 8):
        restarts = started(kind, ready=True)
        for _ in range(size):
            restarts.ended(ROLE, 10.0)
        assert restarts.may_start(ROLE, 10.0), f"the first restart of {size} is at once"


def check_a_delay(kind: type[Restarts] = Restarts) -> None:
    restarts, now_s, waited = started(kind), 0.0, []
    for failures in range(1, 12):
        assert restarts.ended(ROLE, now_s) == failures
        due_s = restarts.due_s(now_s)
        waited.append(0.0 if due_s == float("inf") else due_s - now_s)
        now_s += waited[-1]
        assert restarts.may_start(ROLE, now_s)
        restarts.started(ROLE)
    assert waited[:3] == pytest.approx([0.0, BACKOFF_FIRST_S, 2 * BACKOFF_FIRST_S])
    assert waited[-1] == pytest.approx(BACKOFF_MAX_S)
    restarts.ready(ROLE)
    assert restarts.ended(ROLE, now_s) == 0
    assert restarts.may_start(ROLE, now_s)


def test_a_group_that_dies_together_is_one_incident() -> None:
    check_one_incident()


def test_each_further_one_waits_longer_until_it_was_ready() -> None:
    check_a_delay()


def test_what_anothers_end_explains_counts_for_nothing() -> None:
    restarts = started()
    for _ in range(10):
        assert restarts.ended(ROLE, 0.0, blameless=True) == 0
        assert restarts.may_start(ROLE, 0.0)
        restarts.started(ROLE)


def test_a_start_that_the_system_refuses_waits_and_is_no_failure() -> None:
    restarts = started()
    for _ in range(10):
        restarts.refused(ROLE, 0.0)
        restarts.started(ROLE)
    assert not restarts.may_start(ROLE, BACKOFF_MAX_S - 0.1)
    assert restarts.ended(ROLE, 0.0) == 1


def test_roles_do_not_wait_for_each_other() -> None:
    restarts = started()
    restarts.started("worker 1")
    for _ in range(3):
        restarts.ended(ROLE, 0.0)
        restarts.started(ROLE)
    assert not restarts.may_start(ROLE, 0.0)
    assert restarts.may_start("worker 1", 0.0)


class CountsProcesses(Restarts):
    def ended(self, name: str, now_s: float, *, blameless: bool = False) -> int:
        self.started(name)
        return super().ended(name, now_s, blameless=blameless)


class NeverWaits(Restarts):
    def may_start(self, name: str, now_s: float) -> bool:
        self._of(name).not_before_s = 0.0
        return True

    def due_s(self, now_s: float) -> float:
        return now_s


@pytest.mark.parametrize(("mutant", "check"), [(CountsProcesses, check_one_incident), (NeverWaits, check_a_delay)])
def test_mutants(mutant: type[Restarts], check: Callable[[type[Restarts]], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_it_says_since_when_a_role_was_gone() -> None:
    """Since the first of the ends after which it did not work; once."""
    restarts = started(ready=True)
    restarts.ended(ROLE, 10.0)
    restarts.started(ROLE)
    restarts.ended(ROLE, 12.0)
    restarts.started(ROLE)
    assert [restarts.ready(ROLE), restarts.ready(ROLE)] == [10.0, None]
