"""Deadlines that count only time in which this process ran. A process frozen with its peers did not wait for them."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

SLICE_SECONDS = 1.0
"""The longest part of a freeze that counts."""
T = TypeVar("T")


async def answered(answer: asyncio.Future[T], *, limit_s: float) -> T:
    """Wait for `answer`. Raises TimeoutError after `limit_s`. If the caller is cancelled, `answer` is cancelled too."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def watch(left_s: float) -> asyncio.TimerHandle:
        slice_s = min(SLICE_SECONDS, left_s)
        return loop.call_later(slice_s, passed, left_s, slice_s, time.monotonic())

    def passed(left_s: float, slice_s: float, began_s: float) -> None:
        nonlocal timer
        left_s -= min(slice_s, time.monotonic() - began_s)
        if left_s > 0:
            timer = watch(left_s)
        elif not answer.done():
            answer.set_exception(TimeoutError())

    timer = watch(limit_s)
    try:
        return await answer
    finally:
        timer.cancel()
