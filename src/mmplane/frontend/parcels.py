"""Parcels out: the inline bytes of requests, to the leader, one frame after the other."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from mmplane.wire.stream import header

Content = bytes | bytearray | memoryview


class ParcelSender:
    """Owns one stream. A frame that was begun is finished; the byte budget bounds how much waits."""

    def __init__(self, descriptor: int) -> None:
        self._stream = socket.socket(fileno=descriptor)
        self._stream.setblocking(False)
        self._waiting: deque[Content] = deque()
        self._sending: asyncio.Task[None] | None = None

    def send(self, request_id: int, parcel: Sequence[Content], *, relayed: bool) -> None:
        """Queue a frame: the parts of `parcel`, one after the other. `relayed`: the leader passes it on."""
        self._waiting.append(header(request_id, sum(map(len, parcel)), relayed=relayed))
        self._waiting.extend(parcel)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def close(self) -> None:
        """The leader is gone: what waits goes nowhere. Idempotent."""
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        self._stream.close()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # the leader is dead; the supervisor will say so
            while self._waiting:
                await loop.sock_sendall(self._stream, self._waiting[0])
                self._waiting.popleft()
