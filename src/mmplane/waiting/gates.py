"""Limits the number of concurrent operations for each key. More wait in order; keys do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class _Gate:
    inside: asyncio.Semaphore
    users: int = 0


class Gates:
    """A gate for each key in use; each lets `inside_max` in at a time."""

    def __init__(self, inside_max: int) -> None:
        self._inside_max = inside_max
        self._gates: dict[Hashable, _Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """A block that begins when its turn has come and ends the turn."""
        await self.enter(key)
        try:
            yield
        finally:
            self.leave(key)

    async def enter(self, key: Hashable) -> None:
        """Wait for a turn. The caller must `leave` afterwards."""
        gate = self._gates.setdefault(key, _Gate(asyncio.Semaphore(self._inside_max)))
        gate.users += 1
        try:
            await gate.inside.acquire()
        except BaseException:
            self._forget(key, gate)
            raise

    def leave(self, key: Hashable) -> None:
        """End the turn."""
        gate = self._gates[key]
        gate.inside.release()
        self._forget(key, gate)

    def _forget(self, key: Hashable, gate: _Gate) -> None:
        gate.users -= 1
        if not gate.users:
            del self._gates[key]
