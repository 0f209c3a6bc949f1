"""A link on an event loop: sends records without waiting and receives them by callback, both within limits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mmplane.core.records import Record
from mmplane.wire.link import Link, LinkError, encode

OUTBOX_MAX = 1024


class Mailbox:
    """Owns one link. `receive` is called with each record and its descriptors, `lost` once when the peer is gone."""

    def __init__(
        self,
        link: Link[Any],
        *,
        receive: Callable[[Any, list[int]], None],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._link = link
        self._receive = receive
        self._lost = lost
        self._outbox: deque[tuple[bytes, Sequence[int]]] = deque()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(link.fileno(), self._read)

    def post(self, record: Record, descriptors: Sequence[int] = ()) -> bool:
        """Send now, or as soon as the peer reads. False if the peer is gone or has not read for very long.

        `descriptors` still belong to the caller, who keeps them open until they have been sent.
        """
        if self._closed or len(self._outbox) >= OUTBOX_MAX:
            return False
        message = encode(record)
        if self._outbox:
            self._outbox.append((message, descriptors))
            return True
        try:
            if not self._link.send_bytes_nowait(message, descriptors):
                self._outbox.append((message, descriptors))
                self._loop.add_writer(self._link.fileno(), self._write)
        except LinkError:
            self._lose()
            return False
        return True

    def close(self) -> None:
        """Stop listening and close the link. Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._link.fileno())
            self._loop.remove_writer(self._link.fileno())
            self._link.close()

    def _read(self) -> None:
        try:
            while not self._closed and (received := self._link.receive_nowait()) is not None:
                self._receive(*received)
        except LinkError:
            self._lose()

    def _write(self) -> None:
        try:
            while self._outbox and self._link.send_bytes_nowait(*self._outbox[0]):
                self._outbox.popleft()
        except LinkError:
            self._lose()
            return
        if not self._outbox:
            self._loop.remove_writer(self._link.fileno())

    def _lose(self) -> None:
        self.close()
        self._lost()
