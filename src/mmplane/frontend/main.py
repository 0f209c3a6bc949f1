"""The front end's process: talks to the supervisor, warms up, serves HTTP on the socket that it was given, drains."""

from __future__ import annotations

import asyncio
import logging
import socket

import msgspec
import uvloop

from mmplane.config import Config
from mmplane.core.control import (
    Beat,
    Drain,
    Drained,
    Everyone,
    OutOfService,
    RanksGone,
    RanksUp,
    Ready,
    Serving,
    Spawn,
    ToFrontend,
    Unloadable,
    WorkerGone,
    WorkerUp,
)
from mmplane.core.records import Record
from mmplane.features.facts import reason
from mmplane.frontend.app import build
from mmplane.frontend.assembly import assemble
from mmplane.frontend.chat.model import Model, load
from mmplane.frontend.server import Entrance, finish, server_of
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

log = logging.getLogger("mmplane")

POLL_SECONDS = 0.02


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Frontend(config, spawn.epoch, spawn.incarnation, descriptors).run())


class Frontend:
    """The process that runs the parts of one epoch."""

    def __init__(self, config: Config, epoch: int, incarnation: int, descriptors: dict[str, int]) -> None:
        self._config = config
        self._epoch = epoch
        self._incarnation = incarnation
        self._descriptors = descriptors

    async def run(self) -> None:
        """Build the parts, announce them, and serve."""
        # Nothing is received before the first await, and by then the parts exist.
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToFrontend), receive=self._hear)
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts = assemble(
            self._config,
            self._load(),
            epoch=self._epoch,
            incarnation=self._incarnation,
            descriptors=self._descriptors,
            tell_supervisor=self._supervisor.post,
        )
        parts = self._parts
        app = build(parts.endpoints(self._closing), parts.console(), Entrance.of(self._config, parts.keyring))
        server = server_of(app, self._config, beat=lambda: self._supervisor.post(Beat()))
        self._supervisor.post(Ready())
        listener = socket.socket(fileno=self._descriptors["listener"])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(parts.lag.run(parts.counters.wait_busy))
            tasks.create_task(self._warm_up())
            await server.serve(sockets=[listener])

    def _load(self) -> Model:
        try:
            return load(self._config)
        except Exception as error:
            self._supervisor.post(Unloadable(f"the model cannot be served: {reason(self._config.model_folder, error)}"))
            raise SystemExit(1) from error

    async def _warm_up(self) -> None:
        """Serve one picture internally, then report readiness."""
        while (why := await self._parts.readiness.check()) is not None:
            log.debug("not ready: %s", why)
            await asyncio.sleep(POLL_SECONDS)
        self._supervisor.post(Serving())

    async def _drain(self, limit_s: float) -> None:
        tracer = self._parts.tracer
        await finish(self._parts.counters, self._closing, limit_s)
        if tracer is not None:
            await asyncio.to_thread(tracer.flush)
        self._supervisor.post(Drained())

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        parts = self._parts
        match record:
            case WorkerUp(index=0):
                parts.bodies.parser.add(record.incarnation, descriptors[0])
            case WorkerGone(index=0):
                parts.bodies.parser.remove(record.incarnation)
            case WorkerUp():
                parts.pool.add(record.index, record.incarnation, descriptors[0])
            case WorkerGone():
                parts.pool.remove(record.index, record.incarnation)
            case RanksUp():
                parts.group.kv_tokens_max = record.kv_tokens
                parts.group.connect(record.incarnation, record.dtype, *descriptors)
            case RanksGone():
                parts.group.gone(record.incarnation)
                parts.readiness.reset()
            case OutOfService():
                parts.readiness.out_of_service = record.names
            case Everyone():
                parts.processes.replace(record.running)
            case Drain():
                parts.readiness.draining = True
                self._draining = asyncio.create_task(self._drain(record.limit_s))
