"""The clock of a rank's loop, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from mmplane.core.faults import Fault
from mmplane.core.histogram import GROWTH, Distribution
from mmplane.delivery.ports import Broadcast
from mmplane.ranks.loop import REPORT_SECONDS, LoopClock, TimedBroadcast


class Hands:
    """A wall clock and a CPU clock, in seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cpu_s = 7.0

    def pass_ms(self, ms: float) -> None:
        self.now_s += ms / 1000
        self.cpu_s += ms / 1000


class Passing(Broadcast):
    """A collective that takes 30 ms."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

    def __call__(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        self.hands.pass_ms(30)
        return list(payloads)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def clock(hands: Hands) -> LoopClock:
    return LoopClock(3, now_s=lambda: hands.now_s, cpu_s=lambda: hands.cpu_s)


def is_about(distribution: Distribution, *durations_ms: float) -> bool:
    """Whether these are the durations, to within a bucket."""
    found = [bucket for bucket, count in distribution.counts for _ in range(count)]
    edges = [0.001 * GROWTH**bucket for bucket in found]
    return len(edges) == len(durations_ms) and all(
        exact * 0.999 <= edge <= exact * GROWTH * 1.001 for exact, edge in zip(sorted(durations_ms), edges, strict=True)
    )


def test_a_turn_that_works_is_a_stall_as_long_as_it_takes(clock: LoopClock, hands: Hands) -> None:
    clock.turn()
    clock.worked()
    hands.pass_ms(40)
    clock.turn()
    assert is_about(clock.report().stalls, 40)


def test_waiting_computing_and_checking_are_no_stall(clock: LoopClock, hands: Hands) -> None:
    clock.turn()
    clock.worked()
    hands.pass_ms(2)
    with clock.outside():
        hands.pass_ms(500)
    clock.turn()
    with clock.verify():
        hands.pass_ms(100)
    report = clock.report()
    assert is_about(report.stalls, 2)
    assert report.verify_cpu_s == pytest.approx(0.1)


def test_an_idle_turn_is_not_counted(clock: LoopClock, hands: Hands) -> None:
    for _ in range(3):
        clock.turn()
        hands.pass_ms(10)
    assert clock.report().stalls.count == 0


def test_a_collective_holds_the_loop_up_and_is_timed(clock: LoopClock, hands: Hands) -> None:
    clock.turn()
    clock.worked()
    timed = TimedBroadcast(Passing(hands), clock)
    assert timed(["a", "b"], [None, None]) == ["a", "b"]
    clock.turn()
    report = clock.report()
    assert is_about(report.stalls, 30)
    assert is_about(report.broadcasts, 30)
    assert report.rank == 3


def test_a_collective_beside_the_loop_is_reported_too(clock: LoopClock, hands: Hands) -> None:
    TimedBroadcast(Passing(hands), clock)([], [])
    assert clock.due()
    assert is_about(clock.report().broadcasts, 30)


def test_the_time_of_a_computation_that_fails_is_outside_too(clock: LoopClock, hands: Hands) -> None:
    clock.turn()
    clock.worked()
    with suppress(RuntimeError), clock.outside():
        hands.pass_ms(80)
        raise RuntimeError
    hands.pass_ms(1)
    clock.turn()
    assert is_about(clock.report().stalls, 1)


def test_a_report_is_due_when_something_is_new_and_some_time_has_passed(clock: LoopClock, hands: Hands) -> None:
    assert not clock.due()
    clock.turn()
    clock.worked()
    clock.turn()
    assert clock.due()
    clock.report()
    assert not clock.due()
    clock.worked()
    clock.turn()
    assert not clock.due()
    hands.pass_ms(REPORT_SECONDS * 1000)
    assert clock.due()
