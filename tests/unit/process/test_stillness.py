"""Standing still: what is stopped is noticed soon, what is silent or stopped for too long is over; debuggers pass."""

from __future__ import annotations

import pytest

from mmplane.process.stillness import NOTICE_S, STARVED_MAX_S, Stillness

STALL_S = 5.0


def test_stopped_is_noticed_and_then_over_whatever_the_limit_of_silence() -> None:
    one = Stillness(0.0)
    one.seen(10.0, stopped=True)
    assert not one.noticed(10.0 + NOTICE_S / 2, STALL_S)
    one.seen(10.4, stopped=True)
    assert one.noticed(10.0 + NOTICE_S, STALL_S)
    assert one.over(10.0 + STALL_S, silent_s=600, stall_s=STALL_S) is None
    assert one.over(10.1 + STALL_S, silent_s=600, stall_s=STALL_S) == pytest.approx(15.1)


def test_a_short_stop_is_nothing() -> None:
    one = Stillness(0.0)
    one.seen(1.0, stopped=True)
    one.seen(1.5, stopped=False)
    one.heard(1.6)
    one.seen(4.0, stopped=True)
    assert not one.noticed(4.5, STALL_S)
    assert one.over(7.0, silent_s=600, stall_s=STALL_S) is None


def test_silence_has_its_own_limit() -> None:
    one = Stillness(0.0)
    one.seen(9.0, stopped=False)
    assert one.over(9.0, silent_s=10, stall_s=STALL_S) is None
    assert one.over(10.5, silent_s=10, stall_s=STALL_S) == 10.5
    one.heard(10.5)
    assert one.over(20.0, silent_s=10, stall_s=STALL_S) is None
    assert not one.noticed(20.0, STALL_S)


def test_a_short_limit_is_noticed_before_it_is_over() -> None:
    one = Stillness(0.0)
    one.seen(0.0, stopped=True)
    assert one.noticed(0.5, 1.0)
    assert one.over(0.5, silent_s=1.0, stall_s=1.0) is None


def test_time_in_which_nobody_ran_is_not_counted() -> None:
    one = Stillness(0.0)
    one.seen(1.0, stopped=True)
    one.resumed(3600.0)
    assert not one.noticed(3600.0, STALL_S)
    assert one.over(3600.0 + STALL_S, silent_s=STALL_S, stall_s=STALL_S) is None
    one.seen(3600.5, stopped=False)
    assert one.over(3600.1 + STALL_S, silent_s=STALL_S, stall_s=STALL_S) == pytest.approx(STALL_S + 0.1)


def test_one_that_is_still_stopped_when_the_others_go_on_is_noticed_as_fast_as_ever() -> None:
    one = Stillness(0.0)
    one.seen(1.0, stopped=True)
    one.resumed(3600.0)
    assert one.noticed(3600.0 + NOTICE_S, STALL_S)
    assert one.over(3600.1 + STALL_S, silent_s=600, stall_s=STALL_S) is not None


def test_a_wait_for_the_disk_while_memory_is_short_is_no_silence() -> None:
    one = Stillness(0.0)
    for tenth in range(300):
        one.seen(tenth / 10, stopped=False, starved=tenth % 2 == 0)
        assert one.over(tenth / 10, silent_s=STALL_S, stall_s=STALL_S) is None
    assert one.over(36.0, silent_s=STALL_S, stall_s=STALL_S) is not None, "from then on its silence counts"


def test_and_has_an_end() -> None:
    one = Stillness(0.0)
    now_s = 0.0
    while one.over(now_s, silent_s=STALL_S, stall_s=STALL_S) is None:
        assert now_s < STARVED_MAX_S + STALL_S + 1
        now_s += 0.2
        one.seen(now_s, stopped=False, starved=True)
    assert now_s > STARVED_MAX_S


def test_a_stopped_one_is_stopped_whatever_memory_says() -> None:
    one = Stillness(0.0)
    one.seen(0.0, stopped=True, starved=True)
    one.seen(6.0, stopped=True, starved=True)
    assert one.over(6.0, silent_s=STALL_S, stall_s=STALL_S) == pytest.approx(6.0)
