"""A media machine: `mmplane.items` without HTTP and ranks. Its workers make features for the server that it has joined.

    server ══ Work, media ══> outpost ── Materialise ──> worker 1..W   (sandboxed, as on the server)
           <══ Made, arrays ══    └ maps their regions read-only, and sends the arrays' bytes from there

It connects to the server and reconnects as needed, so the server never has to reach it. It caches nothing: each item is
made for one job, and its slot is free once the bytes have been sent.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NoReturn

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.arena.spans import pieces
from mmplane.config import Config
from mmplane.core.control import (
    Beat,
    Drain,
    Drained,
    Ready,
    Renew,
    Serving,
    Spawn,
    ToFrontend,
    Unloadable,
    WorkerGone,
    WorkerUp,
)
from mmplane.core.errors import RequestError
from mmplane.core.keys import digest_parts
from mmplane.core.records import Record
from mmplane.features.choice import choose
from mmplane.items.crew import WorkerLost
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import Asset, ItemStore
from mmplane.machines.assignment import configured, keep
from mmplane.machines.channel import Channel
from mmplane.machines.dial import Server, fetch, join
from mmplane.machines.greeting import Refusal
from mmplane.machines.kept import Kept
from mmplane.machines.kin import kin_of
from mmplane.machines.records import LANES_MAX, Declined, Died, Hello, Look, Looked, Made, NotMade, Pulse, Work
from mmplane.process.child import BEAT_SECONDS
from mmplane.process.handed import handed
from mmplane.waiting.budget import Budget
from mmplane.wire.framed import Framed
from mmplane.wire.link import Link, LinkError, ProtocolError
from mmplane.wire.mailbox import Mailbox

log = logging.getLogger("mmplane")

AGAIN_SECONDS = 1.0
"""Seconds between two attempts to join."""
LANES_EACH = 2
"""Jobs per worker: while it works on one item, the next one's bytes arrive."""
DECLINED = (413, 503)
"""The error of an item for which this machine has no room; another machine may have room."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Work for the server until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    asyncio.run(OutpostProcess(config, spawn, descriptors).run())


class OutpostProcess:
    """The process around a workshop. `descriptors`: `cluster_secrets`, and `region0` and so on."""

    def __init__(self, config: Config, spawn: Spawn, descriptors: dict[str, int]) -> None:
        self._config = config
        self._owner = Process("outpost", 0, spawn.incarnation)
        self._descriptors = descriptors
        self._server = Server(address_of(config.join), handed(descriptors["cluster_secrets"]), config.join_pin)

    async def run(self) -> NoReturn:
        """Build the parts, wait for a worker, and join; then beat."""
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToFrontend), receive=self._hear)
        self._workshop = self._build()
        self._supervisor.post(Ready())
        joining = asyncio.create_task(self._join_for_good())
        while True:
            self._supervisor.post(Beat())
            await asyncio.sleep(BEAT_SECONDS)
            if joining.done():
                joining.result()

    def _build(self) -> Workshop:
        try:
            return Workshop(self._config, self._owner, self._descriptors, self._supervisor.post)
        except (ValueError, OSError) as error:
            log.exception("the media machine cannot start")
            self._supervisor.post(Unloadable(f"this server's media cannot be processed here: {error}"))
            raise

    async def _join_for_good(self) -> None:
        await self._workshop.warm()
        while True:
            try:
                await self._join()
            except Refusal as refusal:
                log.warning("%s", refusal)
                if refusal.outdated and await self._is_renewed():
                    self._supervisor.post(Renew())
            except (LinkError, OSError) as error:
                log.info("%s cannot be joined now: %s", self._config.join, str(error) or type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _join(self) -> None:
        """Join, and work until the connection ends."""
        hello = Hello(self._config.served_name, "jobs", self._workshop.lanes, self._workshop.kin)
        stream = await asyncio.to_thread(join, self._server, hello)
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        visit = Visit(self._workshop, stream, lost)
        log.info("joined %s", self._config.join)
        self._supervisor.post(Serving())
        visit.start()
        log.warning("the connection to %s ended: %s", self._config.join, await lost)

    async def _is_renewed(self) -> bool:
        """Whether the server serves something else than what was loaded."""
        try:
            assignment, files = await asyncio.to_thread(fetch, self._server, self._config.served_name)
            folder = await asyncio.to_thread(keep, files)
        except (Refusal, LinkError, OSError, ValueError):
            return False
        own = {name: getattr(self._config, name) for name in OWN}
        return configured(assignment, folder, own) != self._config

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case WorkerUp():
                self._workshop.pool.add(record.index, record.incarnation, descriptors[0])
            case WorkerGone():
                self._workshop.pool.remove(record.index, record.incarnation)
            case Drain():
                self._supervisor.post(Drained())  # the server has the jobs in flight done elsewhere


OWN = (
    "arena_bytes",
    "budget_bytes",
    "join",
    "join_pin",
    "log_format",
    "log_level",
    "served_name",
    "stall_seconds",
    "workers",
)
"""Settings of a media machine that do not come from its server."""


def address_of(join: str) -> tuple[str, int]:
    """Parse HOST:PORT. Raises ValueError."""
    host, _, port = join.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--join: {join!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def name_here() -> str:
    """The name of this machine in the server's log."""
    return platform.node()[:64] or "machine"


class Workshop:
    """The workers of this machine, and the store that uses them. Raises ValueError, OSError for the operator."""

    def __init__(
        self,
        config: Config,
        owner: Process,
        descriptors: dict[str, int],
        tell_supervisor: Callable[[Record], object],
    ) -> None:
        lengths_bytes = config.region_bytes()
        self._regions = [
            RegionMapping(descriptors[f"region{number}"], length_bytes, writable=number == 0)
            for number, length_bytes in enumerate(lengths_bytes)
        ]
        arena = Arena(lengths_bytes)
        processors = choose(config)
        self.kin = kin_of(config, processors)
        self.lanes = min(LANES_EACH * config.workers, LANES_MAX)
        self.media_bytes_max = config.body_bytes_max
        self.pool = Pool(
            fingerprint=processors.fingerprint,
            workers=config.workers,
            item_seconds=config.item_seconds,
            waiting_max=LANES_MAX,
            tell_supervisor=tell_supervisor,
            gone=arena.reaped,
        )
        budget = Budget(config.budget_bytes, kept_bytes=config.decode_bytes())
        shelf = Shelf(arena, self._regions[0], owner)
        self._store = ItemStore(arena, self.pool, processors, shelf, owner, budget, cache=False)
        self._tags = count(1)

    async def warm(self) -> None:
        """Return once a worker has loaded and compiled everything."""
        self.pool.free(await self.pool.idle(lambda idle: idle[0]))

    async def do(self, job: Work | Look, media: memoryview) -> tuple[Record, list[memoryview], Callable[[], None]]:
        """Return the answer, the bytes of its arrays, and a function that releases them. Raises RequestError."""
        tag = next(self._tags)
        key = digest_parts([b"job", tag.to_bytes(8, "little")])
        if isinstance(job, Work):
            return await self._make(job, media, key, tag)
        return Looked(job.job_id, await self._store.recipes.of(job.ask, key, media)), [], _nothing

    async def _make(
        self, work: Work, media: memoryview, key: bytes, tag: int
    ) -> tuple[Made, list[memoryview], Callable[[], None]]:
        asset = await self._store.acquire(key, media, work.recipe, tag)
        slot = asset.item.slot
        view = self._regions[slot.region].view(slot.offset_bytes, slot.length_bytes)
        parts = pieces(work.recipe.layout.tensors, view)
        decode_ms, transform_ms = (_seconds(asset, stage) * 1000 for stage in ("decode", "transform"))
        made = Made(work.job_id, decode_ms, transform_ms, sum(map(len, parts)))
        return made, parts, partial(self._store.release, asset.item, tag)


class Visit:
    """One connection to the server: receives jobs and sends the results."""

    def __init__(self, workshop: Workshop, stream: Framed[Any], lost: asyncio.Future[str]) -> None:
        self._workshop = workshop
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._jobs: set[int] = set()
        self._kept: Kept[bytearray] = Kept(workshop.media_bytes_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = lost
        self._channel = Channel(stream, hear=self._hear, lost=self._ended)

    def start(self) -> None:
        """Start to accept jobs."""
        self._channel.start()

    def _hear(self, record: Record) -> None:
        """Handle a record in the receiving thread. Raises LinkError."""
        match record:
            case Pulse():
                return
            case Work() | Look():
                if record.job_id in self._jobs or len(self._jobs) >= self._workshop.lanes:
                    raise ProtocolError("more jobs than this machine has lanes")
                if record.media_bytes > self._workshop.media_bytes_max:
                    raise ProtocolError(f"media of {record.media_bytes} bytes")
                self._jobs.add(record.job_id)
                self._loop.call_soon_threadsafe(self._begin, record, self._media_of(record))
            case _:
                raise ProtocolError(f"{type(record).__name__} after the welcome")

    def _media_of(self, job: Work | Look) -> bytearray:
        if isinstance(job, Work) and job.looked:
            kept = self._kept.take(job.looked)
            if kept is None:
                raise ProtocolError("an item that this machine did not look into")
            return kept
        media = bytearray(job.media_bytes)
        self._stream.receive_into(memoryview(media))
        if isinstance(job, Look):
            self._kept.put(job.job_id, media, len(media))
        return media

    def _ended(self, why: str) -> None:
        self._loop.call_soon_threadsafe(self._lost.set_result, why)

    def _begin(self, job: Work | Look, media: bytearray) -> None:
        task = self._loop.create_task(self._do(job, memoryview(media)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, job: Work | Look, media: memoryview) -> None:
        try:
            answer, parts, give_back = await self._workshop.do(job, media)
        except RequestError as error:
            answer, parts, give_back = _failed(job, error), [], _nothing
        self._jobs.discard(job.job_id)
        self._channel.post(answer, parts, sent=partial(self._loop.call_soon_threadsafe, give_back))


def _nothing() -> None:
    """Release function for an answer without arrays."""


def _failed(job: Work | Look, error: RequestError) -> Record:
    if isinstance(error, WorkerLost):
        return Died(job.job_id)
    return Declined(job.job_id) if error.status in DECLINED else NotMade(job.job_id, error.failure())


def _seconds(asset: Asset, stage: str) -> float:
    return sum(span.seconds for span in asset.spans if span.stage == stage)
