"""Tests as coroutines: each in a loop of its own, which must end with nothing left in it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

HANG_S = 60.0
"""Only tells progress from a hang."""

TURNS = 50
"""More than any chain of callbacks here is long."""


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test; what the loop was told of (an exception that nobody caught) fails it too."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        asyncio.run(_guarded(test(*arguments, **keywords)))

    return run


async def _guarded(test: Awaitable[None]) -> None:
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    async with asyncio.timeout(HANG_S):
        await test
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still running: {left}"
    assert not reports, reports


async def settle() -> None:
    """Until everything that can happen now has happened: sockets are looked at in every turn."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
