"""Deadlines of time in which this process ran: a freeze is not waited, and what is late by itself is late."""

from __future__ import annotations

import asyncio
import time

import pytest

from frontend_loop import in_loop, settle
from mmplane.process.awake import SLICE_SECONDS, answered

LIMIT_S = 5.0


class Clock:
    """The loop's clock and everybody's, which a test puts forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        real = time.monotonic
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: real() + self._ahead_s)
        monkeypatch.setattr("time.monotonic", lambda: real() + self._ahead_s)

    async def passes(self, seconds: float) -> None:
        self._ahead_s += seconds
        await settle()


@in_loop
async def test_a_freeze_is_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answer = Clock(monkeypatch), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(answered(answer, limit_s=LIMIT_S))
    await settle()
    await clock.passes(5 * LIMIT_S)
    assert not waiting.done()
    answer.set_result("here")
    assert await waiting == "here"


@in_loop
async def test_the_limit_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answer = Clock(monkeypatch), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(answered(answer, limit_s=LIMIT_S))
    await settle()
    for _ in range(int(LIMIT_S / SLICE_SECONDS)):
        assert not waiting.done()
        await clock.passes(SLICE_SECONDS)
    with pytest.raises(TimeoutError):
        await waiting
    assert answer.done(), "what comes later finds nobody"


@in_loop
async def test_what_goes_wrong_and_who_goes_away() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    answer.set_exception(ValueError("it cannot"))
    with pytest.raises(ValueError, match="it cannot"):
        await answered(answer, limit_s=LIMIT_S)
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(answered(answer, limit_s=LIMIT_S))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert answer.cancelled()
