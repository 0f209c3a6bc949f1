"""Who steps back gives way; nobody else does."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

import pytest

from mmplane.process.priority import BEHIND, SLACK_SECONDS, STEP_SECONDS, give_way, step_back, unhurried


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that offered their core."""
    seen: list[int] = []
    monkeypatch.setattr(os, "sched_yield", lambda: seen.append(threading.get_native_id()))
    return seen


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_thread_that_has_not_stepped_back_keeps_its_core(offers: list[int]) -> None:
    in_a_thread(give_way)
    assert not offers


def test_a_thread_that_stepped_back_is_behind_and_offers_its_core(offers: list[int]) -> None:
    seen = []

    def work() -> None:
        step_back()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        give_way()

    in_a_thread(work)
    assert seen == [BEHIND]
    assert len(offers) == 1


def test_it_offers_it_once_in_a_step(offers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now_s)

    def work() -> None:
        nonlocal now_s
        step_back()
        for _ in range(10):
            give_way()
            now_s += STEP_SECONDS / 4

    in_a_thread(work)
    assert len(offers) == 2


def test_threads_that_are_started_unhurried_stay_so_and_nobody_else_is() -> None:
    found: list[int] = []

    def slack_ns() -> int:
        return int(ctypes.CDLL(None).prctl(30, 0, 0, 0, 0))

    before_ns = slack_ns()
    with unhurried():
        thread = threading.Thread(target=lambda: found.append(slack_ns()))
        thread.start()
        thread.join()
    assert found == [int(SLACK_SECONDS * 1e9)]
    assert slack_ns() == before_ns
