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
    try:
        while not answer.done() and limit_s > 0:
            began_s, slice_s = time.monotonic(), min(SLICE_SECONDS, limit_s)
            await asyncio.wait((answer,), timeout=slice_s)
            limit_s -= min(slice_s, time.monotonic() - began_s)
    finally:
        if not answer.done():
            answer.cancel()
    if answer.cancelled():
        raise TimeoutError
    return answer.result()
