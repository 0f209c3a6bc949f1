"""The producer's side of mirrors: accepts them, sends each the slots that it lacks, and learns what ranks there do.

Everything is decided in the plane's books (`mmplane.arena.copies`). For each mirror, one thread sends from the region
and one receives (`mmplane.machines.channel`).
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import socket
import ssl
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from mmplane.arena.copies import TooManyMirrors
from mmplane.arena.errors import NotHeld
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.arena.spans import spans
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import Item, Record
from mmplane.embed.plane import Plane
from mmplane.machines.channel import SILENCE_SECONDS, Channel
from mmplane.machines.copying import parts
from mmplane.machines.door import Door
from mmplane.machines.greeting import Refusal
from mmplane.machines.records import Pulse
from mmplane.mirrors.records import FromMirror, Joining, Opened, Prepared, Told
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import ProtocolError
from mmplane.wire.private import check_private

log = logging.getLogger("mmplane")

PREPARING_SECONDS = 120.0
"""How long a mirror may take to reserve its memory."""
PAUSE_SECONDS = 0.05
"""Between two attempts to accept, if connections wait."""


class Mirrors:
    """Accepts mirrors of `plane` on `listener`, from now until `close`. They need the same `key` (32 bytes).

    With `tls`, mirrors must use TLS. Raises ValueError if the listener is not on a private network.
    """

    def __init__(self, plane: Plane, listener: socket.socket, key: bytes, tls: ssl.SSLContext | None = None) -> None:
        check_private(listener.getsockname()[0])
        self._plane = plane
        self._region = _mapped(plane)
        self._listener = listener
        self._door = Door(listener, key, self._admit, tls, request=Joining)
        self._visits: set[Visit] = set()
        self._closed = Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = Thread(target=self._accept, name="mirrors", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all mirrors and accept none any more. The listener is closed."""
        if self._closed.is_set():
            return
        self._closed.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._listener.close()
        for visit in list(self._visits):
            visit.end()

    def _accept(self) -> None:
        poller = select.poll()
        for descriptor in (self._door.fileno(), self._wake):
            poller.register(descriptor, select.POLLIN)
        while not self._closed.wait(PAUSE_SECONDS):
            poller.poll()
            if not self._closed.is_set():
                self._door.look(free=True)

    def _admit(self, joining: Joining, end: End) -> None:
        """Serve a mirror that has the key. Raises Refusal, LinkError."""
        try:
            check_private(end.getpeername()[0])
        except ValueError as error:
            raise Refusal(str(error)) from None
        address = self._plane.address
        preparing: Framed[Any] = Framed(end, FromMirror, silence_s=PREPARING_SECONDS)
        preparing.send(Opened(address.plane, address.length_bytes, mmap.PAGESIZE, address.groups))
        prepared = preparing.receive()
        if not isinstance(prepared, Prepared):
            raise ProtocolError(f"{type(prepared).__name__} came instead of Prepared")
        stream: Framed[Any] = Framed(end, FromMirror, silence_s=SILENCE_SECONDS)
        visit = Visit(self._plane, self._region, stream, joining.name, gone=self._visits.discard)
        self._visits.add(visit)
        visit.begin(prepared.ends_max)
        if self._closed.is_set():
            visit.end()


class Visit:
    """One mirror, from when it has joined until it is lost."""

    def __init__(
        self,
        plane: Plane,
        region: RegionMapping,
        stream: Framed[Any],
        name: str,
        *,
        gone: Callable[[Visit], object],
    ) -> None:
        self._plane = plane
        self._region = region
        self._name = name
        self._gone = gone
        self._over = Event()
        self._channel = Channel(stream, hear=self._hear, lost=self._lost)
        self._mirror: Process

    def begin(self, ends_max: int) -> None:
        """Send what it lacks. Raises Refusal."""
        try:
            self._mirror = self._plane.add_mirror(self._send, ends_max)
        except TooManyMirrors as error:
            self._gone(self)
            self._over.set()
            raise Refusal(str(error)) from None
        log.info("%s mirrors this plane", self._name)
        self._channel.start()

    def end(self) -> None:
        """End the connection. Afterwards nothing reads the region for it."""
        self._channel.end()
        self._over.wait()

    def _send(self, item: Item) -> None:
        """Only the arrays are sent. Padding holds bytes of earlier items."""
        copy = Copy(item.slot, tuple(spans(item.tensors, item.slot.length_bytes)))
        self._channel.post(copy, parts(copy, self._region))

    def _hear(self, record: Record) -> None:
        match record:
            case Pulse():
                pass
            case Wrote():
                try:
                    self._plane.mirror_wrote(self._mirror, record.generation)
                except NotHeld as error:
                    raise ProtocolError(str(error)) from None
            case Told():
                self._plane.mirror_told(self._mirror, joined=record.joined, ended=record.ended, died=record.died)
            case _:
                raise ProtocolError(f"{type(record).__name__} from a mirror that has joined")

    def _lost(self, why: str) -> None:
        log.warning("mirror %s is lost: %s", self._name, why)
        self._plane.mirror_lost(self._mirror)
        self._gone(self)
        self._over.set()


def _mapped(plane: Plane) -> RegionMapping:
    region_fd = plane.address.open_region(os.O_RDONLY)
    try:
        return RegionMapping(region_fd, plane.address.length_bytes, writable=False)
    finally:
        os.close(region_fd)
