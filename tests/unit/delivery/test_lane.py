"""The lane: one thread, one order, bounded, and a job that raises ends the process."""

from __future__ import annotations

import os
import queue
import threading

import pytest

from mmplane.delivery.lane import Lane

LIMIT_S = 60


def test_jobs_run_one_after_the_other_in_their_order() -> None:
    lane, ran, inside = Lane(waiting_max=1000), [], []

    def job(number: int) -> None:
        inside.append(number)
        assert len(inside) == 1
        ran.append((number, threading.current_thread().name))
        inside.pop()

    for number in range(500):
        lane.submit(lambda number=number: job(number))
    assert lane.close(LIMIT_S)
    assert ran == [(number, "lane") for number in range(500)]


def test_more_jobs_than_may_wait_are_refused() -> None:
    lane, go_on, begun = Lane(waiting_max=2), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go_on.wait(LIMIT_S)

    lane.submit(first)
    assert begun.wait(LIMIT_S)
    lane.submit(lambda: None)
    lane.submit(lambda: None)
    assert lane.waiting == 2
    with pytest.raises(queue.Full):
        lane.submit(lambda: None)
    go_on.set()
    assert lane.close(LIMIT_S)


def test_close_finishes_what_waits_and_can_be_said_twice() -> None:
    lane, ran = Lane(waiting_max=100), []
    assert lane.close(LIMIT_S)
    for number in range(50):
        lane.submit(lambda number=number: ran.append(number))
    assert lane.close(LIMIT_S)
    assert lane.close(LIMIT_S)
    assert ran == list(range(50))


@pytest.mark.parametrize("waiting_max", [1, 10])
def test_close_says_when_it_has_waited_long_enough(waiting_max: int) -> None:
    lane, go_on, begun = Lane(waiting_max=waiting_max), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go_on.wait(LIMIT_S)

    lane.submit(first)
    assert begun.wait(LIMIT_S)
    lane.submit(lambda: None)
    assert not lane.close(0.01)
    go_on.set()
    assert lane.close(LIMIT_S)


def test_a_job_that_raises_ends_the_process() -> None:
    child = os.fork()
    if child == 0:
        os.close(2)
        lane = Lane(waiting_max=10)
        lane.submit(lambda: 1 / 0)
        threading.Event().wait(LIMIT_S)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
