"""Sends parcels, the inline bytes of requests, to the leader, one frame after the other."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mmplane.wire.stream import header

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Frame:
    """A parcel to be sent: its parts after the header, and a callback for when all of it has been sent."""

    parts: tuple[Buffer, ...]
    sent: Callable[[], None]


class ParcelSender:
    """Owns one stream. A frame that was started is finished. The byte budget bounds how much waits."""

    def __init__(self, descriptor: int) -> None:
        self._stream = socket.socket(fileno=descriptor)
        self._stream.setblocking(False)
        self._waiting: deque[Frame] = deque()
        self._sending: asyncio.Task[None] | None = None

    def send(
        self, request_id: int, parcel: Sequence[Buffer], *, relayed: bool, sent: Callable[[], None] = lambda: None
    ) -> None:
        """Queue a frame with the parts of `parcel`. `relayed`: the leader forwards it to the other ranks.

        `sent` is called when this process no longer holds its bytes.
        """
        start = header(request_id, sum(map(len, parcel)), relayed=relayed)
        self._waiting.append(Frame((start, *parcel), sent))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def close(self) -> None:
        """The leader is gone, so waiting parcels are dropped. Idempotent."""
        if self._sending is not None:
            self._sending.cancel()
        while self._waiting:
            self._waiting.popleft().sent()
        self._stream.close()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # the leader is dead; the supervisor will report it
            while self._waiting:
                for part in self._waiting[0].parts:
                    await loop.sock_sendall(self._stream, part)
                self._waiting.popleft().sent()
