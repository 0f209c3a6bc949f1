"""A killed child's signal is logged once, whoever says first that it has ended."""

from __future__ import annotations

import logging
import signal

import pytest

from mmplane.core.control import Killed
from mmplane.process.endings import KEPT_MAX, Endings


@pytest.mark.parametrize("nursery_first", [False, True])
def test_a_signal_has_its_name(nursery_first: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    endings = Endings()
    for pid in range(10, 10 + KEPT_MAX):
        endings.gone(pid, f"worker {pid}", logging.INFO)  # by themselves
    calls = [
        lambda: endings.gone(7, "rank 1 (pid 7)", logging.WARNING),
        lambda: endings.killed(Killed(7, signal.SIGKILL)),
    ]
    for call in reversed(calls) if nursery_first else calls:
        call()
    endings.killed(Killed(8, signal.SIGSEGV))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "rank 1 (pid 7) was killed by SIGKILL")
    ]
