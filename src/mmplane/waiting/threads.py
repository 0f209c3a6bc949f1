"""Runs calls that may block for long (a resolver, a network file system) in separate threads.

A thread cannot be interrupted, so a call that nobody waits for any more keeps its turn until it returns. Each tenant
has a limited number of turns, and so has each subject (a host's name, a path): a call that hangs delays neither other
tenants nor other subjects, nor anything else that runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from mmplane.waiting.gates import Gates

ResultT = TypeVar("ResultT")

THREADS_MAX = 32
TENANT_THREADS_MAX = 16
SUBJECT_THREADS_MAX = 2


class Threads:
    """A limited number of threads under one name, started when they are needed."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS_MAX, name)
        self._tenants = Gates(TENANT_THREADS_MAX)
        self._subjects = Gates(SUBJECT_THREADS_MAX)

    async def call(self, tenant: str, subject: str, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call the function in a turn of this subject and tenant. Returns or raises what it does."""
        await self._subjects.enter(subject)
        try:
            await self._tenants.enter(tenant)
        except BaseException:
            self._subjects.leave(subject)
            raise
        running = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

        def ended(call: asyncio.Future[ResultT]) -> None:
            self._tenants.leave(tenant)
            self._subjects.leave(subject)
            call.exception()  # nobody may be left to retrieve it

        running.add_done_callback(ended)
        return await asyncio.shield(running)

    def close(self) -> None:
        """Start no more calls. Does not wait for those that hang."""
        self._pool.shutdown(wait=False)
