"""Counters of this front end's requests: by status, in flight, and their tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Counters:
    """Requests by status, those in flight, and tokens."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.now = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count one more request in flight during the block."""
        self.now += 1
        self._idle.clear()
        self._busy.set()
        try:
            yield
        finally:
            self.now -= 1
            if self.now == 0:
                self._idle.set()
                self._busy.clear()

    async def wait_idle(self) -> None:
        """Wait until no request is in flight."""
        await self._idle.wait()

    async def wait_busy(self) -> None:
        """Wait until a request is in flight."""
        await self._busy.wait()

    def count(self, status: int) -> None:
        """Count a request that has ended."""
        self.statuses[status] += 1

    def tokens(self, prompt: int, completion: int) -> None:
        """Count the tokens of an answered request."""
        self.prompt_tokens += prompt
        self.completion_tokens += completion

    def statistics(self) -> dict[str, Any]:
        """All counters."""
        return {
            "in_flight": self.now,
            "by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
