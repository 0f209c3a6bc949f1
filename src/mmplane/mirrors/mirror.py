"""A mirror: the process on another machine that keeps a copy of a plane, which ranks there open like a plane.

    producer ══ slots' bytes ══> mirror ── writes ──> region <── maps ── ranks
             <══ ends of leases ══      <── pipe ──────────────────────────┘

It writes only what the producer sends, and the producer's books say when a slot is used again. When the connection is
lost, it writes nothing any more and ends: what its ranks have opened stays as it is, and they count as dead. A mirror
does not reconnect, because somebody may still read what the new one would overwrite.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
from itertools import islice
from threading import Event
from typing import Any

from mmplane.arena.label import own
from mmplane.arena.segment import RegionMapping
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import Record
from mmplane.embed.address import Address, discard
from mmplane.embed.releases import JOINED, capacity, hear_nowait
from mmplane.embed.roster import Roster
from mmplane.machines.channel import SILENCE_SECONDS, Channel
from mmplane.machines.copying import receive
from mmplane.machines.dial import GREETING_SECONDS, Server, dialled, expected
from mmplane.machines.greeting import Refusal
from mmplane.machines.records import Pulse, Refused
from mmplane.mirrors.records import TOLD_MAX, Joining, Opened, Prepared, Told, ToMirror
from mmplane.wire.framed import Framed
from mmplane.wire.link import LinkError, ProtocolError
from mmplane.wire.private import check_private

AGAIN_SECONDS = 1.0
"""Until a rank that could not be watched is tried again."""


class Mirror:
    """Joins the producer at `server`. Ranks of this machine open `address`, as long as `run` has not returned.

    Raises ValueError if the server is not on a private network or there is too little memory, OutOfMemory, Refusal,
    LinkError and OSError.
    """

    def __init__(self, server: Server, name: str = "") -> None:
        check_private(server.address[0])
        end = dialled(server, Joining(name or socket.gethostname()[:64]), seconds=GREETING_SECONDS)
        try:
            greeting: Framed[Any] = Framed(end, ToMirror, silence_s=GREETING_SECONDS)
            opened = expected(greeting, Opened)
            if opened.page_bytes != mmap.PAGESIZE:
                raise Refusal(f"the producer has pages of {opened.page_bytes} bytes, this machine of {mmap.PAGESIZE}")
            self.address = Address.create(opened.length_bytes, opened.groups, plane=opened.plane)
            own(self.address.region_fd, self.address.length_bytes)
            self._region = RegionMapping(self.address.region_fd, self.address.length_bytes, writable=True)
        except BaseException:
            end.close()
            raise
        self._roster = Roster()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._why = ""
        self._over = Event()
        self._stream: Framed[Any] = Framed(end, ToMirror, silence_s=SILENCE_SECONDS)
        self._channel = Channel(self._stream, hear=self._hear, lost=self._lost)
        self._channel.post(Prepared(capacity(self.address.hear_fd)))
        self._channel.start()

    def run(self) -> str:
        """Report to the producer what ranks do, until it is gone. Returns why it ended."""
        poller = select.poll()
        for descriptor in (self.address.hear_fd, self._roster.fileno(), self._wake):
            poller.register(descriptor, select.POLLIN)
        while not self._over.is_set():
            poller.poll(AGAIN_SECONDS * 1000)
            self._report()
        self._region.close()
        discard(self.address)
        os.close(self._wake)
        return self._why

    def end(self) -> None:
        """End the connection, from any thread; `run` returns soon after."""
        self._channel.end()

    def _report(self) -> None:
        """Pass on what ranks have told. Ends of leases come before the death of their rank."""
        heard = hear_nowait(self.address.hear_fd)
        for release in heard:
            if release.lease == JOINED and release.rank < self.address.ranks and self._roster.is_new(release.rank):
                self._roster.join(release.rank, release.pid)
        ended = iter([(release.lease, release.rank) for release in heard if release.lease != JOINED])
        while some := tuple(islice(ended, TOLD_MAX)):
            self._tell(Told(ended=some))
        joined, died = self._roster.look()
        if joined or died:
            self._tell(Told(joined=tuple(joined), died=tuple(died)))

    def _tell(self, record: Record) -> None:
        """Send it and wait, so that there is never more than one to be sent."""
        sent = Event()
        self._channel.post(record, sent=sent.set)
        sent.wait()

    # The receiving thread.

    def _hear(self, record: Record) -> None:
        match record:
            case Pulse():
                pass
            case Copy():
                receive(record, self._region, self._stream)
                self._channel.post(Wrote(record.slot.generation))
            case Refused():
                raise LinkError(f"the producer refuses: {record.reason}")
            case _:
                raise ProtocolError(f"{type(record).__name__} from a producer that was joined")

    def _lost(self, why: str) -> None:
        self._why = why
        os.eventfd_write(self._wake, 1)
        self._over.set()  # last, because `run` then closes everything
