"""A node: the process on another machine that joins its ranks to the group of a server.

    server ══ slots' bytes ══> node ── writes ──> regions <── map ── ranks
           ══ messages ══════>      ── SEQPACKET ── ranks

It joins, waits until the server starts its group, has its supervisor start the ranks, and passes messages. When
anything of the group is lost, it ends. The supervisor then ends the ranks, makes new regions, and starts the next node,
which joins again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import Beat, Drain, Drained, Ends, Ready, Renew, Serving, Spawn, ToNode
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import Record
from mmplane.machines.channel import SILENCE_SECONDS, Channel
from mmplane.machines.copying import receive
from mmplane.machines.dial import GREETING_SECONDS, Server, dialled, expected
from mmplane.machines.greeting import Refusal
from mmplane.machines.outpost import address_of
from mmplane.machines.records import Kin, Pulse
from mmplane.nodes.kin import kin_of
from mmplane.nodes.records import Begin, Bulk, Call, FromServer, FromServerBulk, Settings
from mmplane.nodes.relay import Relay
from mmplane.process.child import BEAT_SECONDS
from mmplane.process.handed import handed
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import Link, LinkError, ProtocolError
from mmplane.wire.mailbox import Mailbox
from mmplane.wire.private import check_private

log = logging.getLogger("mmplane")

AGAIN_SECONDS = 1.0
"""Seconds between two attempts to join."""
OWN = ("copy_features", "join", "kind", "log_format", "log_level", "model", "model_folder", "served_name")
"""Settings of a node that are not its server's."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Be part of a group until something of it is lost, or the supervisor ends the process."""
    asyncio.run(Node(msgspec.msgpack.decode(spawn.config, type=Config), descriptors).run())


def fetch(server: Server, name: str) -> Config:
    """The configuration of the server. Raises Refusal, LinkError, OSError."""
    end, config = _called(server, Call(name, "settings"))
    end.close()
    return config


def _called(server: Server, call: Call) -> tuple[End, Config]:
    """Connect, and return the server's configuration. Raises Refusal, LinkError, OSError."""
    end = dialled(server, call, seconds=GREETING_SECONDS)
    try:
        check_private(end.getpeername()[0])
        stream: Framed[Any] = Framed(end, FromServer, silence_s=GREETING_SECONDS)
        return end, msgspec.msgpack.decode(expected(stream, Settings).config, type=Config)
    except BaseException as error:
        end.close()
        if isinstance(error, msgspec.MsgspecError):
            raise Refusal(f"this version does not know the server's settings ({error}): install the same") from None
        if isinstance(error, ValueError):
            raise Refusal(str(error)) from None
        raise


class Node:
    """The process. `descriptors`: `control`, `cluster_secrets`, and `region0` and so on."""

    def __init__(self, config: Config, descriptors: dict[str, int]) -> None:
        self._config = config
        self._descriptors = descriptors
        self._server = Server(address_of(config.join), handed(descriptors["cluster_secrets"]))
        self._regions = [
            RegionMapping(descriptors[f"region{number}"], length_bytes, writable=True)
            for number, length_bytes in enumerate(config.region_bytes())
        ]

    async def run(self) -> None:
        """Join, be part of one group, and return when it is lost."""
        self._ends: asyncio.Future[list[socket.socket]] = asyncio.get_running_loop().create_future()
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToNode), receive=self._hear)
        kin = await asyncio.to_thread(kin_of, self._config, self._config.ranks_each)
        self._supervisor.post(Ready())
        taking_part = asyncio.create_task(self._take_part(kin))
        while not taking_part.done():
            self._supervisor.post(Beat())
            await asyncio.wait([taking_part], timeout=BEAT_SECONDS)
        taking_part.result()

    async def _take_part(self, kin: Kin) -> None:
        stream, begin = await self._begun(kin)
        loop = asyncio.get_running_loop()
        lost = loop.create_future()

        def tell(why: str) -> None:
            loop.call_soon_threadsafe(lambda: None if lost.done() else lost.set_result(why))

        address = stream.socket.getsockname()[0]
        self._supervisor.post(msgspec.structs.replace(begin.meeting, address=address))
        Relay(stream, await self._ends, limit_s=self._config.stall_seconds, lost=tell).start()
        try:
            (await asyncio.to_thread(self._bulk, begin, tell)).start()
        except (Refusal, LinkError, OSError) as error:
            log.warning("%s cannot be joined: %s", self._config.join, str(error) or type(error).__name__)
            return
        self._supervisor.post(Serving())
        log.info("joined %s with %d ranks", self._config.join, begin.meeting.ranks)
        log.warning("the group of %s ended: %s", self._config.join, await lost)

    async def _begun(self, kin: Kin) -> tuple[Framed[Any], Begin]:
        """Join, and wait until the group starts; retry until that is possible."""
        while True:
            try:
                stream = await asyncio.to_thread(self._join, kin)
                return stream, await asyncio.to_thread(_awaited, stream)
            except Refusal as refusal:
                log.warning("%s", refusal)
                if refusal.outdated:
                    self._supervisor.post(Renew())
            except (LinkError, OSError) as error:
                log.info("%s cannot be joined now: %s", self._config.join, str(error) or type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)

    def _join(self, kin: Kin) -> Framed[Any]:
        end, theirs = _called(self._server, Call(self._config.served_name, "ranks", kin))
        if not is_for(theirs, self._config):
            end.close()
            raise Refusal("the server has other settings now", outdated=True)
        return Framed(end, FromServer, silence_s=SILENCE_SECONDS)

    def _bulk(self, begin: Begin, lost: Callable[[str], object]) -> Channel:
        """The connection for slots' bytes. Raises Refusal, LinkError, OSError."""
        host, port = self._server.address[0], begin.bulk_port
        end = dialled(Server((host, port), self._server.key), Bulk(begin.token), seconds=GREETING_SECONDS)
        stream: Framed[Any] = Framed(end, FromServerBulk, silence_s=SILENCE_SECONDS)
        channel = Channel(stream, hear=lambda record: self._write(channel, stream, record), lost=lost)
        return channel

    def _write(self, channel: Channel, stream: Framed[Any], record: Record) -> None:
        """Handle a record of the server in the receiving thread. Raises LinkError."""
        match record:
            case Pulse():
                pass
            case Copy(slot=slot):
                if slot.region >= len(self._regions):
                    raise ProtocolError(f"there is no region {slot.region}")
                receive(record, self._regions[slot.region], stream)
                channel.post(Wrote(slot.generation))
            case _:
                raise ProtocolError(f"{type(record).__name__} from a server that copies")

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case Ends():
                self._ends.set_result([socket.socket(fileno=descriptor) for descriptor in descriptors])
            case Drain():
                self._supervisor.post(Drained())  # the server's group ends with this machine


def is_for(server: Config, node: Config) -> bool:
    """Whether a node with this configuration can be part of that server's group."""
    return all(getattr(server, name) == getattr(node, name) for name in server.__struct_fields__ if name not in OWN)


def configured(server: Config, own: dict[str, Any]) -> Config:
    """A node's configuration, from its server's."""
    return msgspec.structs.replace(server, kind="node", **own)


def _awaited(stream: Framed[Any]) -> Begin:
    """Receive until the group begins. Raises LinkError; the stream is closed then."""
    try:
        while True:
            match stream.receive():
                case Begin() as begin:
                    return begin
                case Pulse():
                    pass
                case record:
                    raise ProtocolError(f"{type(record).__name__} before the group begins")
    except LinkError:
        stream.close()
        raise
