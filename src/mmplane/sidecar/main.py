"""The keeper's process: talks to the supervisor, and accepts connections once a worker is warm."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.config import Config
from mmplane.core.control import (
    Beat,
    Drain,
    Drained,
    Ready,
    Serving,
    Spawn,
    ToFrontend,
    Unloadable,
    WorkerGone,
    WorkerUp,
)
from mmplane.core.records import Record
from mmplane.process.child import BEAT_SECONDS
from mmplane.sidecar.door import Door
from mmplane.sidecar.keeper import Keeper
from mmplane.sidecar.maker import Carrier, Maker
from mmplane.sidecar.regions import Regions
from mmplane.sidecar.scrape import serve
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

try:  # a turn of its loop takes less CPU
    import uvloop
except ImportError:  # pragma: no cover
    uvloop = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from mmplane.sidecar.workshop import Workshop

log = logging.getLogger("mmplane")

PAGE_BYTES = 4096
"""A rank returns whole pages to the kernel when it drops what it wrote, so no two slots share a page."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Keep one plane until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        runner.run(KeeperProcess(config, spawn, descriptors).run())


class KeeperProcess:
    """The process around one plane. `descriptors`: `listener`, and `region0` and so on, writable."""

    def __init__(self, config: Config, spawn: Spawn, descriptors: dict[str, int]) -> None:
        self._config = config
        self._owner = Process("keeper", 0, spawn.incarnation)
        self._descriptors = descriptors
        self._workshop: Workshop | None = None

    async def run(self) -> NoReturn:
        """Build the parts, wait for a worker, start to accept connections, and report; then beat."""
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToFrontend), receive=self._hear)
        self._build()
        self._supervisor.post(Ready())
        opening = asyncio.create_task(self._open())
        while True:
            self._supervisor.post(Beat())
            await asyncio.sleep(BEAT_SECONDS)
            if opening.done():
                opening.result()

    def _build(self) -> None:
        config = self._config
        arena = Arena(config.region_bytes(), align_bytes=PAGE_BYTES)
        maker = Carrier() if config.carry_only else self._make(arena)
        regions = Regions(
            arena,
            [self._descriptors[f"region{number}"] for number, _ in enumerate(config.region_bytes())],
            producers_bytes=config.producers_bytes,
        )
        self._keeper = Keeper(arena, maker, regions, self._owner, figures=self._figures)
        listener = socket.socket(fileno=self._descriptors["listener"])
        self._door = Door(listener, self._keeper.admit, group=bool(config.socket_group))

    def _make(self, arena: Arena) -> Maker:
        # Imported here because it imports every processor, which a carry-only sidecar does not need.
        workshop = importlib.import_module("mmplane.sidecar.workshop").Workshop
        try:
            self._workshop = made = workshop(
                self._config, arena, self._descriptors["region0"], self._owner, self._supervisor.post
            )
        except (ValueError, OSError) as error:
            self._supervisor.post(Unloadable(f"this model's media cannot be processed: {error}"))
            raise SystemExit(1) from error
        figures = made.figures
        log.info(
            "%s; images by the %s backend, decoded as %s does",
            *(made.room, figures["backend"], figures["decode_profile"]),
        )
        maker: Maker = made.maker
        return maker

    def _figures(self) -> dict[str, Any]:
        made = self._workshop.figures if self._workshop else {}
        return made | {"refused": self._door.refused}

    async def _open(self) -> None:
        """Wait until a worker has loaded and compiled everything, so that clients never wait for that."""
        if self._workshop is not None:
            await self._workshop.warm()
        if port := self._config.metrics_port:
            try:
                self._scrapes = await serve(port, self._keeper.statistics)
            except OSError as error:
                self._supervisor.post(Unloadable(f"--metrics-port: port {port} is not available: {error.strerror}"))
                raise SystemExit(1) from error
        self._door.open()
        self._supervisor.post(Serving())

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case WorkerUp() if self._workshop is not None:
                self._workshop.pool.add(record.index, record.incarnation, descriptors[0])
            case WorkerGone() if self._workshop is not None:
                self._workshop.pool.remove(record.index, record.incarnation)
            case Drain():
                self._supervisor.post(Drained())  # requests in flight fail as they do when the sidecar dies
