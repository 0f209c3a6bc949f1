"""A plane that is mirrored over loopback, by mirrors in threads of this process or by impostors that obey a test."""

from __future__ import annotations

import mmap
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from unittest import mock

from embed_rig import MIB
from mmplane import Address, Plane
from mmplane.embed.address import discard
from mmplane.machines.dial import Server, dialled, expected
from mmplane.machines.records import Pulse
from mmplane.mirrors import mirror as mirror_module
from mmplane.mirrors import producer
from mmplane.mirrors.mirror import Mirror
from mmplane.mirrors.producer import Mirrors
from mmplane.mirrors.records import Copy, Joining, Opened, Prepared, ToMirror
from mmplane.wire.framed import Framed
from polling import until

HANG_S = 60.0
KEY = b"k" * 32


class Mirrored:
    """The producer's side. `tls` and `pin` as of a server and its machines."""

    def __init__(
        self, *, groups: tuple[int, ...] = (3,), arena_bytes: int = 4 * MIB, tls: Any = None, pin: str = ""
    ) -> None:
        self.address = Address.create(arena_bytes, groups)
        self.plane = Plane(self.address)
        listener = socket.create_server(("127.0.0.1", 0))
        self.server = Server(("127.0.0.1", listener.getsockname()[1]), KEY, pin)
        self.mirrors = Mirrors(self.plane, listener, KEY, tls)
        self._threads: list[Thread] = []
        self._impostors: list[Impostor] = []
        self.ended: list[str] = []
        """Why mirrors have ended."""

    def mirror(self) -> Mirror:
        """One that has joined."""
        before = self.figure("mirrors")
        mirror = Mirror(self.server, "second")
        self._threads.append(Thread(target=lambda: self.ended.append(mirror.run())))
        self._threads[-1].start()
        until(lambda: self.figure("mirrors") > before)
        return mirror

    def impostor(self) -> Impostor:
        """One that has joined, and speaks only when it is told to."""
        before = self.figure("mirrors")
        self._impostors.append(Impostor(self.server))
        self._impostors[-1].stream.send(Prepared(1024))
        until(lambda: self.figure("mirrors") > before)
        return self._impostors[-1]

    def figure(self, name: str) -> Any:
        return self.plane.statistics()[name]

    def leased_bytes(self) -> int:
        leased: int = self.figure("arena").total.leased_bytes
        return leased

    def close(self) -> None:
        self.mirrors.close()
        for thread in self._threads:
            thread.join(HANG_S)
        for impostor in self._impostors:
            impostor.stream.close()
        self.plane.check_integrity()
        discard(self.address)


class Impostor:
    """Has the key, and does the rest by hand."""

    def __init__(self, server: Server) -> None:
        end = dialled(server, Joining("impostor"), seconds=HANG_S)
        self.stream: Framed[Any] = Framed(end, ToMirror, silence_s=HANG_S)
        self.opened: Opened = expected(self.stream, Opened)
        assert self.opened.page_bytes == mmap.PAGESIZE

    def announced(self) -> Copy:
        """The next copy, whose bytes follow."""
        while isinstance(record := self.stream.receive(), Pulse):
            pass
        assert isinstance(record, Copy)
        return record

    def received(self) -> tuple[Copy, bytes]:
        """The next copy and its bytes."""
        copy = self.announced()
        room = bytearray(sum(end - begin for begin, end in copy.spans))
        self.stream.receive_into(memoryview(room))
        return copy, bytes(room)


@contextmanager
def mirrored(**how: Any) -> Iterator[Mirrored]:
    patient = [mock.patch.object(module, "SILENCE_SECONDS", HANG_S) for module in (producer, mirror_module)]
    with patient[0], patient[1]:  # an impostor says nothing for a while
        made = Mirrored(**how)
        try:
            yield made
        finally:
            made.close()
