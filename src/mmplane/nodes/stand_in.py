"""A stand-in: the process on the server that stands for the ranks of one other machine.

    front end ─ Copy ──> stand-in ══ slots' bytes ══> node ── writes ──> regions <── map ── ranks
    rank 0    ─ Plan ──>          ══════════════════>      ── Plan ──> ranks

Before a group starts, it waits for a machine. It is ready when one has joined, and the supervisor starts the group when
all stand-ins are. It ends when the machine is lost, and then the whole group is replaced.
"""

from __future__ import annotations

import hmac
import logging
import os
import select
import socket
from collections import deque
from contextlib import suppress
from threading import Lock
from typing import Any

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import Attach, Ends, Meeting, Ready, Spawn, ToStandIn
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import Record
from mmplane.machines.channel import SILENCE_SECONDS, Channel
from mmplane.machines.copying import parts
from mmplane.machines.door import Door
from mmplane.machines.greeting import Refusal
from mmplane.machines.kin import differences
from mmplane.machines.records import SECRET_BYTES, Pulse
from mmplane.nodes.kin import kin_of
from mmplane.nodes.records import TOKEN_BYTES, Begin, Bulk, Call, FromMachine, FromMachineBulk, Settings
from mmplane.nodes.relay import Relay
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.process.handed import handed
from mmplane.process.title import entitle
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import Link, LinkError, PeerGone, ProtocolError
from mmplane.wire.private import check_private

log = logging.getLogger("mmplane")

TELL_SECONDS = 5.0


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Stand for the ranks of a machine until it is lost, or the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    key = handed(descriptors["cluster_secrets"])[:SECRET_BYTES]
    control = Control(Link(descriptors["control"], ToStandIn))
    regions = [
        RegionMapping(descriptors[f"region{number}"], length_bytes, writable=False)
        for number, length_bytes in enumerate(config.region_bytes())
    ]
    bulk = socket.socket(fileno=descriptors["bulk"])
    stand_in = StandIn(config, spawn.index, control, regions, bulk_port=bulk.getsockname()[1])
    doors = (
        Door(socket.socket(fileno=descriptors["listener"]), key, stand_in.admit, request=Call),
        Door(bulk, key, stand_in.admit_bulk, request=Bulk),
    )
    while True:
        control.beat()
        stand_in.wait(*doors)


class StandIn:
    """One machine, from when it joins. Other threads call `admit`, `admit_bulk` and what `Relay` and `Channel` call."""

    def __init__(
        self, config: Config, index: int, control: Control, regions: list[RegionMapping], *, bulk_port: int
    ) -> None:
        self._config = config
        self._index = index
        self._control = control
        self._regions = regions
        self._bulk_port = bulk_port
        self._lock = Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kin = kin_of(config, config.ranks_each)
        self._settings = Settings(msgspec.msgpack.encode(config))
        self._name = ""
        self._waiting: Framed[Any] | None = None
        """The connection of a machine that has joined, until the group starts."""
        self._token = os.urandom(TOKEN_BYTES)
        self._bulk: Channel | None = None
        self._frontend: Link[Copy] | None = None
        self._lost: deque[str] = deque()

    def wait(self, door: Door[Call], bulk_door: Door[Bulk]) -> None:
        """Handle everything that arrives within a beat. Raises LinkError when the machine is lost."""
        poller = select.poll()
        for watched in (self._control.link, self._wake, bulk_door, *((self._frontend,) if self._frontend else ())):
            poller.register(watched.fileno() if isinstance(watched, Door) else watched, select.POLLIN)
        if not self._name:
            poller.register(door.fileno(), select.POLLIN)
        if self._waiting is not None:
            poller.register(self._waiting.socket, select.POLLIN)
        poller.poll(BEAT_SECONDS * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        door.look(free=not self._name)
        bulk_door.look(free=True)
        if self._lost:
            raise PeerGone(self._lost[0])
        while (received := self._control.link.receive_nowait()) is not None:
            self._hear(*received)
        if self._waiting is not None:
            self._stay(self._waiting)
        self._copy()

    # Joining, in threads of their own.

    def admit(self, call: Call, end: End) -> None:
        """Serve a machine that has the key; the socket is this object's unless it raises Refusal, LinkError."""
        try:
            check_private(end.getpeername()[0])
        except ValueError as error:
            raise Refusal(str(error)) from None
        stream: Framed[Any] = Framed(end, FromMachine, silence_s=SILENCE_SECONDS)
        if call.wants == "settings":
            stream.send(self._settings)
            stream.close()
            return
        if different := differences(self._kin, call.kin):
            raise Refusal(different)
        with self._lock:
            if self._name:
                raise Refusal(f"this server has the {self._config.nodes - 1} machines that --nodes allows")
            self._name = call.name or "a machine"
        try:
            stream.send(self._settings)
        except LinkError:
            self._name = ""
            raise
        self._waiting = stream
        entitle(f"mmplane: stand-in {self._name}")
        log.info("%s has joined with ranks %s", self._name, self._ranks())
        self._control.tell(Ready())
        os.eventfd_write(self._wake, 1)

    def admit_bulk(self, bulk: Bulk, end: End) -> None:
        """The second connection of the machine. Raises Refusal if it is another one's."""
        if not hmac.compare_digest(bulk.token, self._token):
            raise Refusal("a connection of another machine")
        with self._lock:
            if self._bulk is not None:
                raise Refusal("a machine that is connected already")
            stream: Framed[Any] = Framed(end, FromMachineBulk, silence_s=SILENCE_SECONDS)
            self._bulk = Channel(stream, hear=self._hear_bulk, lost=self._end)
        self._bulk.start()

    # The main thread.

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case Ends(meeting=meeting):
                self._begin(meeting, [socket.socket(fileno=descriptor) for descriptor in descriptors])
            case Attach():
                self._attach(Link(descriptors[0], Copy))

    def _attach(self, frontend: Link[Copy] | None) -> None:
        with self._lock:  # a receiving thread may be sending on the last one
            if self._frontend is not None:
                self._frontend.close()
            self._frontend = frontend

    def _begin(self, meeting: Meeting, ends: list[socket.socket]) -> None:
        stream, self._waiting = self._waiting, None
        if stream is None:
            raise PeerGone("the group starts without a machine")
        stream.send(Begin(meeting, self._bulk_port, self._token))
        Relay(stream, ends, limit_s=self._config.stall_seconds, lost=self._end).start()

    def _stay(self, stream: Framed[Any]) -> None:
        """Keep the connection of a machine that waits for the group. It sends nothing before that."""
        poller = select.poll()
        poller.register(stream.socket, select.POLLIN)
        if poller.poll(0):
            self._waiting = None
            stream.receive()
            raise ProtocolError("a machine that waits for its group sends something")
        stream.send(Pulse())

    def _copy(self) -> None:
        """Send what the front end wants to be sent. Only arrays: padding holds bytes of earlier items."""
        try:
            while self._frontend is not None and (received := self._frontend.receive_nowait()) is not None:
                copy = received[0]
                if self._bulk is None:
                    raise ProtocolError("a copy for a machine that is not connected")
                self._bulk.post(copy, parts(copy, self._regions[copy.slot.region]))
        except PeerGone:  # the supervisor brings the next one
            self._attach(None)

    # Receiving threads.

    def _hear_bulk(self, record: Record) -> None:
        match record:
            case Pulse():
                pass
            case Wrote():
                with self._lock, suppress(PeerGone):  # the next front end knows no such generation
                    if self._frontend is not None:
                        self._frontend.send(record, limit_s=TELL_SECONDS)
            case _:
                raise ProtocolError(f"{type(record).__name__} from a machine that copies")

    def _end(self, why: str) -> None:
        log.warning("%s is lost: %s", self._name, why)
        self._lost.append(why)
        os.eventfd_write(self._wake, 1)

    def _ranks(self) -> str:
        ranks = self._config.ranks_of(self._index)
        return f"{ranks.start} to {ranks.stop - 1}" if len(ranks) > 1 else f"{ranks.start}"
