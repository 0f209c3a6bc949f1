"""The keeper's process: hears the supervisor, opens the door once a worker is warm."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, NoReturn

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
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
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.choice import Processors, choose
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import ItemStore
from mmplane.media.profiles import PROFILES
from mmplane.process.child import BEAT_SECONDS
from mmplane.sidecar.door import Door
from mmplane.sidecar.keeper import Keeper
from mmplane.sidecar.making import Making
from mmplane.sidecar.regions import Regions
from mmplane.sidecar.scrape import serve
from mmplane.waiting.budget import Budget
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

log = logging.getLogger("mmplane")

PAGE_BYTES = 4096
"""A rank gives whole pages back to the kernel when it drops what it wrote, so no two slots share one."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Keep the books of one plane until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    asyncio.run(KeeperProcess(config, spawn, descriptors).run())


class KeeperProcess:
    """The process around the books of one plane. `descriptors`: `listener`, and `region0` and so on, writable."""

    def __init__(self, config: Config, spawn: Spawn, descriptors: dict[str, int]) -> None:
        self._config = config
        self._owner = Process("keeper", 0, spawn.incarnation)
        self._descriptors = descriptors

    async def run(self) -> NoReturn:
        """Build, wait for a worker, open the door, and say so; then beat."""
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToFrontend), receive=self._hear)
        processors = self._load()
        self._build(processors)
        self._supervisor.post(Ready())
        opening = asyncio.create_task(self._open())
        while True:
            self._supervisor.post(Beat())
            await asyncio.sleep(BEAT_SECONDS)
            if opening.done():
                opening.result()

    def _load(self) -> Processors:
        try:
            files = CheckpointFiles(self._config.model_folder)
            PROFILES[self._config.decode_profile].check_architectures(
                files.json("config.json").get("architectures") or []
            )
            return choose(self._config)
        except (ValueError, OSError) as error:
            log.exception("the sidecar cannot start")
            self._supervisor.post(Unloadable(f"this model's media cannot be processed: {error}"))
            raise

    def _build(self, processors: Processors) -> None:
        config, lengths_bytes = self._config, self._config.region_bytes()
        arena = Arena(lengths_bytes, align_bytes=PAGE_BYTES)
        region = RegionMapping(self._descriptors["region0"], lengths_bytes[0], writable=True)
        budget = Budget(config.budget_bytes, kept_bytes=config.decode_bytes())
        self._pool = Pool(
            fingerprint=processors.fingerprint,
            workers=config.workers,
            item_seconds=config.item_seconds,
            waiting_max=config.queue_max,
            tell_supervisor=self._supervisor.post,
            gone=arena.reaped,
        )
        store = ItemStore(
            arena, self._pool, processors, Shelf(arena, region, self._owner), self._owner, budget, cache=True
        )
        regions = Regions(
            arena,
            [self._descriptors[f"region{number}"] for number, _ in enumerate(lengths_bytes)],
            producers_bytes=config.producers_bytes,
        )

        def figures() -> dict[str, Any]:
            return {
                "encoding": processors.encoding,
                "backend": config.backend,
                "decode_profile": processors.decode_profile,
                "budget": msgspec.to_builtins(budget.statistics()),
                "workers": msgspec.to_builtins(self._pool.statistics()),
                "refused": self._door.refused,
            }

        making = Making(store, budget, media_bytes_max=config.body_bytes_max)
        self._keeper = Keeper(
            arena, store, making, regions, self._owner, fingerprint=processors.fingerprint, figures=figures
        )
        listener = socket.socket(fileno=self._descriptors["listener"])
        self._door = Door(listener, self._keeper.admit, group=bool(config.socket_group))
        log.info(
            "features lie in the arena as %s, images by the %s backend, decoded as %s does",
            *(processors.encoding, config.backend, processors.decode_profile),
        )

    async def _open(self) -> None:
        """Who connects finds a worker that has loaded and compiled everything."""
        self._pool.free(await self._pool.idle(lambda idle: idle[0]))
        if port := self._config.metrics_port:
            try:
                self._scrapes = await serve(port, self._keeper.statistics)
            except OSError as error:
                self._supervisor.post(Unloadable(f"--metrics-port: port {port} cannot be had: {error.strerror}"))
                raise
        self._door.open()
        self._supervisor.post(Serving())

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case WorkerUp():
                self._pool.add(record.index, record.incarnation, descriptors[0])
            case WorkerGone():
                self._pool.remove(record.index, record.incarnation)
            case Drain():
                self._supervisor.post(Drained())  # what is in flight fails as it does when the sidecar dies
