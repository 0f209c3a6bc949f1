"""The clock of a rank's loop, on a clock that the test turns."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mmplane.core.histogram import GROWTH, Distribution
from mmplane.delivery.meter import Meter
from mmplane.ranks.plan.loop import REPORT_SECONDS, LoopClock


class Hands:
    """A wall clock and a CPU clock, in seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cpu_s = 7.0

    def pass_ms(self, ms: float) -> None:
        self.now_s += ms / 1000
        self.cpu_s += ms / 1000


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def clock(hands: Hands, meter: Meter) -> LoopClock:
    return LoopClock(3, meter, now_s=lambda: hands.now_s, cpu_s=lambda: hands.cpu_s)


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


def test_collectives_are_reported_without_the_wait_for_others(clock: LoopClock, hands: Hands, meter: Meter) -> None:
    meter.collective(2, pickle_s=0.02, wait_s=5.0, transfer_s=0.01)
    meter.collective(1, pickle_s=0.03, wait_s=0.0, transfer_s=0.0)
    meter.collective(2, pickle_s=0.0, wait_s=0.0, transfer_s=0.03)
    assert clock.due()
    report = clock.report()
    assert is_about(report.broadcasts, 30, 30, 30)
    assert report.collectives.batches == ((1, 1), (2, 2))
    split = (report.collectives.pickle_ms, report.collectives.wait_ms, report.collectives.transfer_ms)
    assert split == pytest.approx((50, 5000, 40))
    assert report.rank == 3
    hands.pass_ms(REPORT_SECONDS * 1000)
    assert not clock.due()


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
