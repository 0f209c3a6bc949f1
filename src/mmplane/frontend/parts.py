"""The parts of one epoch, and who knows whom among them: built once, before anything is heard or served."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import Mapping as Region
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.core.records import Record
from mmplane.delivery.compact import Compactor
from mmplane.delivery.delivery import Sends
from mmplane.features.choice import Processors
from mmplane.frontend.addresses import Allowed
from mmplane.frontend.admission import Budget
from mmplane.frontend.bodies import Bodies
from mmplane.frontend.chat import Chat
from mmplane.frontend.counters import Counters
from mmplane.frontend.dispatch import AUTO, Dispatch
from mmplane.frontend.freight import Encoded, Freight, Materialised, Slots
from mmplane.frontend.group import Group
from mmplane.frontend.intake import Intake
from mmplane.frontend.lag import LoopLag
from mmplane.frontend.model import Model
from mmplane.frontend.plane import Plane
from mmplane.frontend.pool import Pool
from mmplane.frontend.readiness import Readiness
from mmplane.frontend.rollout import Rollout
from mmplane.frontend.shares import Shares, share_of
from mmplane.frontend.shelf import Shelf
from mmplane.frontend.source import Source
from mmplane.observe.journal import Journal, Tracer
from mmplane.process.handed import handed

log = logging.getLogger("mmplane")

GENERATION_BITS = 40
"""An epoch's slots are numbered from `epoch << 40`: no record of an earlier front end can name one of ours."""


@dataclass(frozen=True)
class Memory:
    """The arena's books, in whose name we hold leases, and region 0, which we write."""

    arena: Arena
    owner: Process
    region: Region


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything of one epoch."""

    config: Config
    epoch: int
    keyring: Keyring
    encoding: str
    """How features travel."""

    arena: Arena
    pool: Pool
    plane: Plane
    bodies: Bodies
    source: Source
    intake: Intake
    dispatch: Dispatch
    group: Group
    chat: Chat

    budget: Budget
    shares: Shares
    readiness: Readiness

    counters: Counters
    lag: LoopLag
    journal: Journal
    tracer: Tracer | None


def assemble(
    config: Config,
    model: Model,
    *,
    epoch: int,
    incarnation: int,
    descriptors: Mapping[str, int],
    tell_supervisor: Callable[[Record], object],
) -> Parts:
    """The parts, on a running event loop. `descriptors` has `region0` and `keyring`."""
    keyring = msgspec.msgpack.decode(handed(descriptors["keyring"]), type=Keyring)
    in_flight_max = config.running_max + config.queue_max
    memory = _memory(config, epoch, incarnation, descriptors["region0"])
    budget = _budget(config, keyring)
    pool = _pool(config, model.processors, memory, tell_supervisor)
    plane = _plane(config, model.processors, memory, pool, budget)
    group = Group(memory.arena, memory.owner, epoch, in_flight_max=in_flight_max)
    dispatch = _dispatch(config, plane, model.processors, budget)
    source = Source(Allowed(config.fetch_hosts, config.fetch_networks), media_root=config.media_root)
    intake = Intake(plane, source, frames_max=config.video_frames_max)
    chat = _chat(config, model, plane, dispatch, group, intake)
    tracer = _tracer(config.trace_to)
    log.info("features travel as %s", model.processors.encoding)
    return Parts(
        config=config,
        epoch=epoch,
        keyring=keyring,
        encoding=model.processors.encoding,
        arena=memory.arena,
        pool=pool,
        plane=plane,
        bodies=Bodies(memory.arena, memory.region, memory.owner, bytes_max=config.body_bytes_max),
        source=source,
        intake=intake,
        dispatch=dispatch,
        group=group,
        chat=chat,
        budget=budget,
        shares=Shares(share_of(in_flight_max, keyring.tenants)),
        readiness=Readiness(
            chat, model=config.served_name, modality=model.processors.probed, limit_s=config.stall_seconds
        ),
        counters=Counters(),
        lag=LoopLag(),
        journal=Journal(tracer),
        tracer=tracer,
    )


def _memory(config: Config, epoch: int, incarnation: int, region0: int) -> Memory:
    lengths_bytes = config.region_bytes()
    return Memory(
        Arena(lengths_bytes, first_generation=epoch << GENERATION_BITS),
        Process("frontend", 0, incarnation),
        Region(region0, lengths_bytes[0], writable=True),
    )


def _budget(config: Config, keyring: Keyring) -> Budget:
    kept_bytes = config.decode_bytes()
    tenant_bytes_max = share_of(config.budget_bytes - kept_bytes, keyring.tenants)
    return Budget(config.budget_bytes, kept_bytes=kept_bytes, tenant_bytes_max=tenant_bytes_max)


def _pool(config: Config, processors: Processors, memory: Memory, tell_supervisor: Callable[[Record], object]) -> Pool:
    return Pool(
        fingerprint=processors.fingerprint,
        workers=config.workers,
        item_seconds=config.item_seconds,
        waiting_max=config.queue_max,
        tell_supervisor=tell_supervisor,
        gone=memory.arena.reaped,
    )


def _plane(config: Config, processors: Processors, memory: Memory, pool: Pool, budget: Budget) -> Plane:
    return Plane(
        memory.arena,
        pool,
        processors,
        Shelf(memory.arena, memory.region, memory.owner),
        memory.owner,
        budget,
        cache=config.cache != "off",
        workers=config.workers > 0,
    )


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


def _chat(config: Config, model: Model, plane: Plane, dispatch: Dispatch, group: Group, intake: Intake) -> Chat:
    return Chat(
        config=config,
        plane=plane,
        dispatch=dispatch,
        group=group,
        intake=intake,
        tokenizer=model.tokenizer,
        chat_template=model.chat_template,
        marks=model.marks,
        copies={modality: form.copies for modality, form in model.processors.byte_forms.items()},
        context_tokens=model.context_tokens,
    )


def _tracer(to: str) -> Tracer | None:
    if not to:
        return None
    # Not imported above: OpenTelemetry is an extra, and who wants no traces shall not pay for it.
    tracer: Tracer = importlib.import_module("mmplane.observe.trace").Tracer(to)
    return tracer
