"""Builds the parts of one epoch and connects them, once, before anything is received or served."""

from __future__ import annotations

import asyncio
import importlib
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.buckets import Reading
from mmplane.core.keyring import Keyring
from mmplane.core.records import Record
from mmplane.delivery.compact import Compactor
from mmplane.delivery.delivery import Sends
from mmplane.features.choice import Processors
from mmplane.features.room import described
from mmplane.frontend.chat.chat import Chat
from mmplane.frontend.chat.model import Model
from mmplane.frontend.chat.preparation import Preparation
from mmplane.frontend.chat.readiness import Readiness
from mmplane.frontend.chat.texts import TEXT
from mmplane.frontend.http.completions import Completions
from mmplane.frontend.http.endpoint import Endpoint, Endpoints, Work
from mmplane.frontend.http.render import Renderings
from mmplane.frontend.http.routes import Routes
from mmplane.frontend.report import Report, plain, ranks
from mmplane.frontend.request.bodies import Bodies
from mmplane.frontend.request.intake import Intake
from mmplane.frontend.request.looks import StoreLooks
from mmplane.frontend.send.dispatch import AUTO, Dispatch
from mmplane.frontend.send.freight import FeatureFreight, Freight, MediaFreight, SlotFreight
from mmplane.frontend.send.group import Group
from mmplane.frontend.send.rollout import Rollout
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.source import Source
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import ItemStore
from mmplane.observe.counters import Counters
from mmplane.observe.exposition import Labels
from mmplane.observe.journal import Journal, Tracer
from mmplane.observe.lag import LoopLag
from mmplane.observe.processes import Processes
from mmplane.process.handed import handed
from mmplane.waiting.budget import Budget
from mmplane.waiting.share import Share

log = logging.getLogger("mmplane")

GENERATION_BITS = 40
"""An epoch's slots are numbered from `epoch << 40`, so no record of an earlier front end can name one of them."""


@dataclass(frozen=True)
class Memory:
    """The arena's index, the owner of the front end's leases, and region 0, which the front end writes."""

    arena: Arena
    owner: Process
    region: RegionMapping


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """All parts of one epoch."""

    config: Config
    epoch: int
    keyring: Keyring
    encoding: str
    """How features are stored in the arena."""

    arena: Arena
    pool: Pool
    store: ItemStore
    bodies: Bodies
    source: Source
    looks: StoreLooks
    preparation: Preparation
    dispatch: Dispatch
    group: Group
    chat: Chat

    budget: Budget
    seats: Share
    readiness: Readiness

    counters: Counters
    lag: LoopLag
    processes: Processes
    journal: Journal
    tracer: Tracer | None

    def endpoints(self, closing: asyncio.Future[None]) -> Endpoints:
        """The parts that accept requests. When `closing` is set, requests that still run end."""
        answers = partial(Completions, self.chat, counters=self.counters, readiness=self.readiness, seats=self.seats)
        renderings = Renderings(self.preparation, model_id=self.config.model_id or self.config.model)
        works = (answers(), renderings, answers(form=TEXT))
        return Endpoints(*(self._endpoint(work, closing) for work in works))

    def _endpoint(self, work: Work, closing: asyncio.Future[None]) -> Endpoint:
        return Endpoint(
            work,
            bodies=self.bodies,
            budget=self.budget,
            counters=self.counters,
            journal=self.journal,
            standing=self.readiness,
            closing=closing,
            seats=self.seats,
            config=self.config,
        )

    def console(self) -> Routes:
        """The parts that answer all other requests."""
        report = Report(self._sections(), counts=self._counts, readings=self._readings)
        return Routes(
            names=(self.config.served_name, *self.config.more_names),
            context_tokens=self.preparation.context_tokens,
            readiness=self.readiness,
            dispatch=self.dispatch,
            journal=self.journal,
            statistics=report.statistics,
            figures=report.figures,
        )

    def _sections(self) -> dict[str, Callable[[], Any]]:
        return {
            "build": lambda: {"version": version("mmplane"), "python": platform.python_version()},
            "model": self._model,
            "epoch": lambda: self.epoch,
            "encoding": lambda: self.encoding,
            "requests": self.counters.statistics,
            "journal": self.journal.statistics,
            "restarts": self._restarts,
            "plane": lambda: {
                "materialisations": self.store.materialisations,
                "bytes_written": self.store.bytes_written,
                "retries": self.store.retries + self.store.recipes.retries,
            },
            "delivery": self.dispatch.statistics,
            "loop_lag": self.lag.statistics,
            "bodies": lambda: {"parsed": self.bodies.parser.parsed},
            "fetch": lambda: plain(self.source.statistics()),
            "media": self.looks.uuids.statistics,
            "arena": lambda: plain(self.arena.statistics()),
            "budget": lambda: plain(self.budget.statistics()),
            "shares": self.seats.statistics,
            "workers": lambda: plain(self.pool.statistics()),
            "ranks": lambda: ranks(self.group),
            "copies": self.group.mirrored.statistics,
            "traces_dropped": lambda: self.tracer.dropped if self.tracer is not None else 0,
        }

    def _model(self) -> dict[str, Any]:
        """The model's name and the settings that clients can see."""
        return {"model": self.config.served_name, "dtype": self.group.dtype, "tp": self.config.tp}

    def _counts(self) -> Mapping[str, Mapping[Labels, float]]:
        return {**self.journal.counts(), "cpu": self.processes.cpu_s(), "resident": self.processes.resident_bytes()}

    def _readings(self) -> Mapping[str, Mapping[Labels, Reading]]:
        loops = self.group.statistics().loops
        return self.journal.readings() | {
            "loop_lag": {(): self.lag.reading()},
            "stalls": {(str(loop.rank),): loop.stalls.reading() for loop in loops},
            "broadcasts": {(str(loop.rank),): loop.broadcasts.reading() for loop in loops},
            "latency": self.dispatch.latencies(),
        }

    def _restarts(self) -> dict[str, int]:
        """Processes that ended in this epoch, by role, and earlier front ends."""
        return {
            "frontend": self.epoch - 1,
            "parser": self.bodies.parser.ended,
            "worker": self.pool.statistics().ended,
            "ranks": self.group.statistics().ended,
        }


def assemble(
    config: Config,
    model: Model,
    *,
    epoch: int,
    incarnation: int,
    descriptors: Mapping[str, int],
    tell_supervisor: Callable[[Record], object],
) -> Assembly:
    """Build the parts on a running event loop. `descriptors` has `region0` and `keyring`."""
    keyring = msgspec.msgpack.decode(handed(descriptors["keyring"]), type=Keyring)
    in_flight_max = config.running_max + config.queue_max
    memory = _memory(config, epoch, incarnation, descriptors["region0"])
    budget = Budget(config.budget_bytes, kept_bytes=config.decode_bytes(), tenants=config.tenants)
    pool = _pool(config, model.processors, memory, tell_supervisor)
    store = _store(config, model.processors, memory, pool, budget)
    ranks_here = config.ranks_each if config.nodes > 1 else None
    group = Group(memory.arena, memory.owner, epoch, in_flight_max=in_flight_max, ranks_here=ranks_here)
    dispatch = _dispatch(config, store, model.processors, budget)
    source = Source(Allowed(config.fetch_hosts, config.fetch_networks), media_root=config.media_root)
    looks = StoreLooks(store)
    preparation = _preparation(config, model, looks, source)
    chat = Chat(
        config=config,
        store=store,
        dispatch=dispatch,
        group=group,
        preparation=preparation,
        renderer=model.renderer,
        copies={modality: form.copies for modality, form in model.processors.byte_forms.items()},
    )
    tracer = _tracer(config.trace_to, config.served_name)
    log.info("%s", described(model.processors, config.region_bytes()))
    return Assembly(
        config=config,
        epoch=epoch,
        keyring=keyring,
        encoding=model.processors.encoding,
        arena=memory.arena,
        pool=pool,
        store=store,
        bodies=_bodies(config, model, memory, tell_supervisor),
        source=source,
        looks=looks,
        preparation=preparation,
        dispatch=dispatch,
        group=group,
        chat=chat,
        budget=budget,
        seats=Share(in_flight_max, config.tenants),
        readiness=Readiness(
            chat, group, pool, model=config.served_name, modality=model.processors.probed, limit_s=config.stall_seconds
        ),
        counters=Counters(),
        lag=LoopLag(),
        processes=Processes(),
        journal=Journal(tracer),
        tracer=tracer,
    )


def _memory(config: Config, epoch: int, incarnation: int, region0: int) -> Memory:
    lengths_bytes = config.region_bytes()
    return Memory(
        Arena(lengths_bytes, first_generation=epoch << GENERATION_BITS),
        Process("frontend", 0, incarnation),
        RegionMapping(region0, lengths_bytes[0], writable=True),
    )


def _pool(config: Config, processors: Processors, memory: Memory, tell_supervisor: Callable[[Record], object]) -> Pool:
    return Pool(
        fingerprint=processors.fingerprint,
        workers=config.workers,
        item_seconds=config.item_seconds,
        waiting_max=config.queue_max + config.images_max,
        tell_supervisor=tell_supervisor,
        gone=memory.arena.reaped,
    )


def _store(config: Config, processors: Processors, memory: Memory, pool: Pool, budget: Budget) -> ItemStore:
    return ItemStore(
        memory.arena,
        pool,
        processors,
        Shelf(memory.arena, memory.region, memory.owner),
        memory.owner,
        budget,
        cache=config.cache != "off",
        workers=config.workers > 0,
        tenants=config.tenants,
    )


def _bodies(config: Config, model: Model, memory: Memory, tell_supervisor: Callable[[Record], object]) -> Bodies:
    return Bodies(
        memory.arena,
        memory.region,
        memory.owner,
        renderer=model.renderer,
        bytes_max=config.body_bytes_max,
        tell_supervisor=tell_supervisor,
        tenants=config.tenants,
    )


def _preparation(config: Config, model: Model, looks: StoreLooks, source: Source) -> Preparation:
    return Preparation(
        config,
        Intake(looks, source, frames_max=config.video_frames_max, several=model.several),
        model.marks,
        context_tokens=model.renderer.context_tokens,
        vocabulary_tokens=model.renderer.vocabulary_tokens,
        names={config.served_name, *config.more_names},
    )


def _dispatch(config: Config, store: ItemStore, processors: Processors, budget: Budget) -> Dispatch:
    """The front end half of every delivery. Inline bytes exist once here, and once on each rank that receives them."""
    everywhere = 1 + config.tp
    encoded = MediaFreight(budget, copies=everywhere, ranks=config.tp)
    eager: Freight = encoded
    eager_compact: Freight = encoded
    if config.materialise == "eager":
        make = partial(
            FeatureFreight,
            processors,
            budget,
            copies=everywhere,
            threads=config.workers,
            feature_hash=config.feature_hash != "none",
        )
        eager = make()
        eager_compact = make(compact=(processors.compact(), Compactor(config.tp)))
    freights: dict[Sends | str, Freight] = {
        Sends.SLOTS: SlotFreight(store),
        Sends.MEDIA: encoded,
        Sends.FEATURES: eager,
        "eager-compact": eager_compact,
        AUTO: SlotFreight(store, patient=False),  # it does not use the arena's path
    }
    return Dispatch(
        Rollout(config.delivery, rollback_on=config.rollback_on),
        freights,
        store,
        largest_item_bytes=max(config.region_bytes()[1:], default=0),
        cache=config.cache,
        prefix_cache=config.prefix_cache,
        ingress=config.ingress,
        nodes=config.nodes,
    )


def _tracer(to: str, model: str) -> Tracer | None:
    if not to:
        return None
    # Imported here because OpenTelemetry is an extra: users without traces should not pay for the import.
    tracer: Tracer = importlib.import_module("mmplane.observe.trace").Tracer(to, model)
    return tracer
