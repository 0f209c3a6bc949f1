"""Waits for the answer to a call on an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def awaited(future: Future[ResultT]) -> ResultT:
    """The result of a call, for asyncio: `asyncio.wrap_future` takes three times as long."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake(_: Future[ResultT]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_complete, woken)

    future.add_done_callback(wake)
    try:
        await woken
        return future.result()
    except asyncio.CancelledError:
        future.cancel()
        raise
    finally:
        del future  # as in `Client._wait`


def _complete(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
