"""Who steps back gives way; nobody else does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from mmplane.process.priority import BEHIND, NICEST, SLACK_SECONDS, STEP_SECONDS, give_way, step_back, unhurried


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
    assert seen == [min(os.getpriority(os.PRIO_PROCESS, 0) + BEHIND, NICEST)]
    assert len(offers) == 1


STEPS_BACK = """
import os, threading
from mmplane.process.priority import step_back
if os.geteuid() == 0:
    os.setuid(65534)
step_back()
twice = threading.Thread(target=step_back)
twice.start()
twice.join()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize("nice", [0, 10, 19])
def test_an_ordinary_users_process_steps_back_from_where_it_was_started(nice: int) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    found = subprocess.check_output(["nice", "-n", str(nice), sys.executable, "-c", STEPS_BACK], text=True)
    assert int(found) == min(min(ours + nice, NICEST) + BEHIND, NICEST)


def test_a_system_that_refuses_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    in_a_thread(step_back)


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
