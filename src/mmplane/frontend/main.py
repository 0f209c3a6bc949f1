"""The front end's process: builds the parts, hears the supervisor, serves HTTP on the listening socket it was given."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import uvicorn
import uvloop
from transformers import AutoConfig, AutoTokenizer

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import Mapping
from mmplane.config import Config
from mmplane.core.control import (
    Beat,
    Drain,
    Drained,
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
from mmplane.core.histogram import Distribution
from mmplane.core.keyring import Keyring
from mmplane.core.records import Modality, Record
from mmplane.delivery.compact import Compactor
from mmplane.delivery.delivery import Sends
from mmplane.features.choice import Processors, choose
from mmplane.features.tokens import tokens_of
from mmplane.frontend.addresses import Allowed
from mmplane.frontend.admission import Budget
from mmplane.frontend.app import build
from mmplane.frontend.bodies import Bodies
from mmplane.frontend.chat import Chat
from mmplane.frontend.connections import bounded
from mmplane.frontend.dispatch import AUTO, Dispatch
from mmplane.frontend.freight import Encoded, Freight, Materialised, Slots
from mmplane.frontend.group import Group
from mmplane.frontend.intake import Intake
from mmplane.frontend.lag import LoopLag
from mmplane.frontend.mailbox import Mailbox
from mmplane.frontend.plane import Plane
from mmplane.frontend.pool import Pool
from mmplane.frontend.prompt import Marks, chat_template_of
from mmplane.frontend.readiness import Readiness
from mmplane.frontend.rollout import Rollout
from mmplane.frontend.shares import Shares, share_of
from mmplane.frontend.shelf import Shelf
from mmplane.frontend.source import Source
from mmplane.frontend.statistics import Counters
from mmplane.observe.journal import Journal, Tracer
from mmplane.observe.metrics import Figures
from mmplane.process.child import BEAT_SECONDS
from mmplane.process.descriptors import connections_max
from mmplane.process.handed import handed
from mmplane.wire.link import Link

log = logging.getLogger("mmplane")

GENERATION_BITS = 40
"""An epoch's slots are numbered from `epoch << 40`: no record of an earlier front end can name one of ours."""
POLL_SECONDS = 0.02


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Frontend(config, spawn.epoch, spawn.incarnation, descriptors).run())


class Server(uvicorn.Server):
    """uvicorn, but signals are the supervisor's business."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()


class Frontend:
    """Everything of one epoch."""

    def __init__(self, config: Config, epoch: int, incarnation: int, descriptors: dict[str, int]) -> None:
        self._config = config
        self._epoch = epoch
        self._incarnation = incarnation
        self._descriptors = descriptors

    async def run(self) -> None:
        """Build, announce, serve."""
        config = self._config
        supervisor = Mailbox(Link(self._descriptors["control"], ToFrontend), receive=self._hear)
        self._supervisor = supervisor
        owner = Process("frontend", 0, self._incarnation)
        lengths_bytes = config.region_bytes()
        self._arena = Arena(lengths_bytes, first_generation=self._epoch << GENERATION_BITS)
        try:
            processors = choose(config)
            tokenizer = AutoTokenizer.from_pretrained(config.model_folder, trust_remote_code=False)
            model = AutoConfig.from_pretrained(config.model_folder, trust_remote_code=False)
            chat_template = chat_template_of(tokenizer, config.model_folder)
            marks = _marks(processors, tokens_of(config.model_folder))
        except (ValueError, OSError) as error:
            log.exception("the front end cannot start")
            supervisor.post(Unloadable(f"the model cannot be served: {error}"))
            raise
        self._pool = Pool(
            fingerprint=processors.fingerprint,
            workers=config.workers,
            item_seconds=config.item_seconds,
            waiting_max=config.queue_max,
            tell_supervisor=supervisor.post,
            gone=self._arena.reaped,
        )
        media = Mapping(self._descriptors["region0"], lengths_bytes[0], writable=True)
        self._encoding = processors.encoding
        log.info("features travel as %s", processors.encoding)
        keyring = msgspec.msgpack.decode(handed(self._descriptors["keyring"]), type=Keyring)
        kept_bytes = config.decode_bytes()
        self._budget = Budget(
            config.budget_bytes,
            kept_bytes=kept_bytes,
            tenant_bytes_max=share_of(config.budget_bytes - kept_bytes, keyring.tenants),
        )
        in_flight_max = config.running_max + config.queue_max
        self._shares = Shares(share_of(in_flight_max, keyring.tenants))
        self._plane = Plane(
            self._arena,
            self._pool,
            processors,
            Shelf(self._arena, media, owner),
            owner,
            self._budget,
            cache=config.cache != "off",
            workers=config.workers > 0,
        )
        self._bodies = Bodies(self._arena, media, owner, bytes_max=config.body_bytes_max)
        self._lag = LoopLag()
        self._group = Group(self._arena, owner, self._epoch, in_flight_max=in_flight_max)
        self._dispatch = _dispatch(config, self._plane, processors, self._budget)
        self._source = Source(Allowed(config.fetch_hosts, config.fetch_networks), media_root=config.media_root)
        self._intake = Intake(self._plane, self._source, frames_max=config.video_frames_max)
        chat = Chat(
            config=config,
            plane=self._plane,
            dispatch=self._dispatch,
            group=self._group,
            intake=self._intake,
            tokenizer=tokenizer,
            chat_template=chat_template,
            marks=marks,
            copies={modality: form.copies for modality, form in processors.byte_forms.items()},
            context_tokens=config.context_tokens_max or int(model.get_text_config().max_position_embeddings),
        )
        self._counters = Counters()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tracer = _tracer(config.trace_to)
        self._journal = Journal(self._tracer)
        self._readiness = Readiness(
            chat, model=config.served_name, modality=processors.probed, limit_s=config.stall_seconds
        )
        app = build(
            chat=chat,
            bodies=self._bodies,
            dispatch=self._dispatch,
            budget=self._budget,
            counters=self._counters,
            journal=self._journal,
            readiness=self._readiness,
            closing=self._closing,
            shares=self._shares,
            keyring=keyring,
            config=config,
            statistics=self._statistics,
            figures=self._figures,
        )
        server = Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http=bounded(connections_max(config.processes())),
                timeout_keep_alive=30,
                backlog=1024,
            )
        )
        supervisor.post(Ready())
        listener = socket.socket(fileno=self._descriptors["listener"])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._lag.run())
            tasks.create_task(self._warm_up())
            await server.serve(sockets=[listener])

    async def _beat(self) -> None:
        while True:
            self._supervisor.post(Beat())
            await asyncio.sleep(BEAT_SECONDS)

    async def _warm_up(self) -> None:
        """Serve one picture to ourselves, then say so."""
        while (why := await self._readiness.check()) is not None:
            log.debug("not ready: %s", why)
            await asyncio.sleep(POLL_SECONDS)
        self._supervisor.post(Serving())

    async def _drain(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._counters.wait_idle()
        except TimeoutError:
            self._closing.set_result(None)
            await self._counters.wait_idle()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.flush)
        self._supervisor.post(Drained())

    def _hear(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case WorkerUp(index=0):
                self._bodies.add(record.incarnation, descriptors[0])
            case WorkerGone(index=0):
                self._bodies.remove(record.incarnation)
            case WorkerUp():
                self._pool.add(record.index, record.incarnation, descriptors[0])
            case WorkerGone():
                self._pool.remove(record.index, record.incarnation)
            case RanksUp():
                self._group.connect(record.incarnation, record.dtype, *descriptors)
            case RanksGone():
                self._group.gone(record.incarnation)
                self._readiness.reset()
            case OutOfService():
                self._readiness.out_of_service = record.names
            case Drain():
                self._readiness.draining = True
                self._draining = asyncio.create_task(self._drain(record.limit_s))

    def _statistics(self) -> dict[str, Any]:
        plane = {"materialisations": self._plane.materialisations, "bytes_written": self._plane.bytes_written}
        return {
            "epoch": self._epoch,
            "encoding": self._encoding,
            "requests": self._counters.statistics(),
            "journal": self._journal.statistics(),
            "restarts": self._restarts(),
            "plane": plane,
            "delivery": self._dispatch.statistics(),
            "loop_lag": self._lag.statistics(),
            "bodies": {"parsed": self._bodies.parsed},
            "fetch": _plain(self._source.statistics()),
            "media": self._intake.names.statistics(),
            "arena": _plain(self._arena.statistics()),
            "budget": _plain(self._budget.statistics()),
            "shares": self._shares.statistics(),
            "workers": _plain(self._pool.statistics()),
            "ranks": _ranks(self._group),
            "traces_dropped": self._tracer.dropped if self._tracer is not None else 0,
        }

    def _restarts(self) -> dict[str, int]:
        """Processes that ended in this epoch, by role, and the front ends before it."""
        return {
            "frontend": self._epoch - 1,
            "parser": self._bodies.ended,
            "worker": self._pool.statistics().ended,
            "ranks": self._group.statistics().ended,
        }

    def _figures(self) -> Figures:
        """What `/metrics` shows, now."""
        loops = self._group.statistics().loops
        readings = self._journal.readings() | {
            "loop_lag": {(): self._lag.reading()},
            "stalls": {(str(loop.rank),): loop.stalls.reading() for loop in loops},
            "broadcasts": {(str(loop.rank),): loop.broadcasts.reading() for loop in loops},
            "latency": self._dispatch.latencies(),
        }
        return Figures(self._statistics(), self._journal.counts(), readings)


def _tracer(to: str) -> Tracer | None:
    if not to:
        return None
    # Not imported above: OpenTelemetry is an extra, and who wants no traces shall not pay for it.
    tracer: Tracer = importlib.import_module("mmplane.observe.trace").Tracer(to)
    return tracer


def _dispatch(config: Config, plane: Plane, processors: Processors, budget: Budget) -> Dispatch:
    """Every delivery's front end half. An inline item's bytes lie here once, and on each rank that gets them."""
    everywhere = 1 + config.tp
    encoded = Encoded(budget, copies=everywhere, ranks=config.tp)
    eager: Freight = encoded
    eager_compact: Freight = encoded
    if config.materialise == "eager":
        eager = Materialised(processors, budget, copies=everywhere, threads=config.workers)
        packing = (processors.compact(), Compactor(config.tp))
        eager_compact = Materialised(processors, budget, copies=everywhere, threads=config.workers, compact=packing)
    freights: dict[Sends | str, Freight] = {
        Sends.SLOTS: Slots(plane),
        Sends.MEDIA: encoded,
        Sends.FEATURES: eager,
        "eager-compact": eager_compact,
        AUTO: Slots(plane, patient=False),  # it has another way
    }
    return Dispatch(
        Rollout(config.delivery, rollback_on=config.rollback_on),
        freights,
        plane,
        largest_item_bytes=max(config.region_bytes()[1:], default=0),
        cache=config.cache,
    )


def _marks(processors: Processors, tokens: dict[Modality, int]) -> dict[Modality, Marks]:
    placeholders = {modality: each.placeholder_id for modality, each in processors.present.items()}
    return {modality: Marks(id_, tokens[modality]) for modality, id_ in placeholders.items() if id_ is not None}


def _ranks(group: Group) -> dict[str, Any]:
    statistics = group.statistics()
    progress = statistics.progress
    return {
        "incarnation": statistics.incarnation,
        "attached": statistics.attached,
        "in_flight": statistics.in_flight,
        "requests": statistics.requests,
        "progress": progress
        and {
            "number": progress.number,
            "running": progress.running,
            "waiting": progress.waiting,
            "kv_tokens": progress.kv_tokens,
            "ranks": [
                {
                    "rank": report.rank,
                    "number": report.number,
                    "digest": report.digest.hex(),
                    "parcels": report.parcels,
                    "cached": report.cached,
                }
                for report in progress.ranks
            ],
        },
        "loops": [
            {
                "rank": loop.rank,
                "stalls": _counts(loop.stalls),
                "broadcasts": _counts(loop.broadcasts),
                "verify_cpu_s": loop.verify_cpu_s,
            }
            for loop in statistics.loops
        ],
    }


def _counts(distribution: Distribution) -> dict[str, Any]:
    return {"counts": distribution.counts, "total_ms": distribution.total_ms}


def _plain(statistics: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(statistics)
    return plain
