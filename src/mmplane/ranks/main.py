"""A rank process: joins the group, loads its share of the model, and turns plans into tokens.

The leader's loop and a follower's differ only in where plans come from. Neither waits for media, for the front end or
for the supervisor; both wait for plans, and for each other inside the collectives of a step.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForMultimodalLM, DistributedConfig

from mmplane.arena.segment import Mapping
from mmplane.config import Config
from mmplane.core.control import Attach, Probing, RanksReady, Spawn, ToRank, Unloadable
from mmplane.core.plan import (
    Abort,
    Attached,
    FromFollower,
    Held,
    LoopReport,
    Plan,
    Position,
    Submit,
    ToLeader,
)
from mmplane.delivery.lane import Lane
from mmplane.delivery.names import DELIVERIES
from mmplane.delivery.object_collective import ObjectBroadcast
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.ports import Ports
from mmplane.features.choice import Processors, choose
from mmplane.features.rebuild import Rebuild
from mmplane.features.tokens import tokens_of
from mmplane.media.materialise import materialise
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.ranks.inbox import Inbox
from mmplane.ranks.leader import Leader
from mmplane.ranks.loop import LoopClock, TimedBroadcast
from mmplane.ranks.member import Member
from mmplane.ranks.null import NullRunner
from mmplane.ranks.probe import Probe, Unsupported, verify
from mmplane.ranks.reader import ParcelReader
from mmplane.ranks.runner import Runner
from mmplane.ranks.schedule import Schedule
from mmplane.ranks.wake import Wake
from mmplane.wire.link import Link, LinkError, PeerGone, PeerStalled, encode

log = logging.getLogger("mmplane")

REPORT_SECONDS = 1.0
OUTBOX_MAX = 4096
"""Records that may wait for a front end that does not read; beyond it that front end counts as gone."""


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve as rank `spawn.index` until the supervisor ends the process."""
    warnings.filterwarnings("ignore", "The given buffer is not writable")  # it is not meant to be (invariant 7)
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    control = Control(Link(descriptors["control"], ToRank))
    rank, tp = spawn.index, spawn.of
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // tp))
    inbox = Inbox(
        [
            Mapping(descriptors[f"region{i}"], length_bytes, writable=False)
            for i, length_bytes in enumerate(config.region_bytes())
        ],
        copy=config.copy_features,
    )
    clock = LoopClock(rank)
    try:
        loaded = _load(config, descriptors["store"], rank, tp, inbox, control, clock)
    except (Unsupported, ValueError, OSError) as error:
        log.exception("rank %d cannot start", rank)
        control.tell(Unloadable(f"the model cannot be served: {error}"))
        raise
    parcels, wake = Parcels(), Wake()
    ports = _ports(config, rank, tp, loaded.processors, inbox, parcels, clock)
    deliveries = {name: kind(ports) for name, kind in DELIVERIES.items()}
    schedule = Schedule(config.prefill_tokens)
    member = Member(loaded.runner, schedule, rank, deliveries, parcels, wake, clock, copy=config.copy_features)
    if rank == 0:
        leader = Leader(
            tp=tp,
            kv_tokens_max=config.kv_bytes // loaded.kv_bytes_per_token,
            running_max=config.running_max,
            end_tokens=loaded.end_tokens,
            cache_bytes=config.cache_bytes,
        )
        followers: list[Link[Any]] = [Link(descriptors[f"follower{i}"], FromFollower) for i in range(1, tp)]
        streams = [socket.socket(fileno=descriptors[f"parcels{i}"]) for i in range(1, tp)]
        control.tell(RanksReady(loaded.kv_bytes_per_token, loaded.dtype))
        LeaderLoop(member, leader, followers, streams, parcels, wake, control, config).run()
    else:
        stream = socket.socket(fileno=descriptors["parcels"])
        ParcelReader(stream, parcels, wake, limit_s=config.stall_seconds, frame_bytes_max=config.budget_bytes)
        follow(member, Link(descriptors["leader"], Plan), control, wake, config.stall_seconds)


@dataclass(frozen=True)
class Loaded:
    """What computes, what makes features, and what the leader has to know of them."""

    runner: Runner | NullRunner
    processors: Processors
    end_tokens: frozenset[int]
    dtype: str
    kv_bytes_per_token: int


def follow(member: Member, leader: Link[Plan], control: Control, wake: Wake, limit_s: float) -> None:
    """A follower's life: plans in, `Held` and `Position` out."""
    poller = select.poll()
    poller.register(leader, select.POLLIN)
    poller.register(wake, select.POLLIN)
    while True:
        member.clock.turn()
        control.beat()
        if member.clock.due():
            leader.send(member.clock.report(), limit_s=limit_s)
        received = leader.receive_nowait()
        if received is not None:
            member.take(received[0])
            leader.send(member.position(), limit_s=limit_s)
        if member.preparing:
            if (held := member.advance()) is not None:
                leader.send(held, limit_s=limit_s)
        elif received is None:
            with member.clock.outside():
                poller.poll(BEAT_SECONDS * 1000)
            wake.clear()


class LeaderLoop:
    """The leader's life: requests in, plans to the followers, tokens out."""

    def __init__(
        self,
        member: Member,
        leader: Leader,
        followers: list[Link[Any]],
        streams: list[socket.socket],
        parcels: Parcels,
        wake: Wake,
        control: Control,
        config: Config,
    ) -> None:
        self._member = member
        self._leader = leader
        self._followers = followers
        self._streams = streams
        self._parcels = parcels
        self._wake = wake
        self._control = control
        self._limit_s = config.stall_seconds
        self._frame_bytes_max = config.budget_bytes
        self._reader: ParcelReader | None = None
        self._frontend: Link[Any] | None = None
        self._epoch = 0
        self._acknowledged_epoch = 0
        self._reported_s = 0.0

    def run(self) -> None:
        """Until the supervisor ends the process, or a peer is lost (then the whole group is replaced)."""
        while True:
            self._member.clock.turn()
            self._control.beat()
            self._hear()
            plan = self._leader.propose()
            if plan is not None:
                self._lead(plan)
            preparing = self._member.preparing
            if preparing and (held := self._member.advance()) is not None:
                self._leader.held(held)
            self._acknowledge()
            self._report()
            self._flush()
            if plan is None and not preparing:
                self._wait()

    def _lead(self, plan: Plan) -> None:
        message = encode(plan)
        for follower in self._followers:
            follower.send_bytes(message, limit_s=self._limit_s)
        step, tokens = self._member.take(plan)
        self._leader.position(self._member.position())
        self._leader.sampled(step.drawn, tokens)

    def _hear(self) -> None:
        while (received := self._control.link.receive_nowait()) is not None:
            attach, (descriptor, stream) = received
            assert isinstance(attach, Attach)
            self._attach(attach.epoch, descriptor, stream)
        for follower in self._followers:
            while (received := follower.receive_nowait()) is not None:
                match received[0]:
                    case Held() as held:
                        self._leader.held(held)
                    case Position() as position:
                        self._leader.position(position)
                    case LoopReport() as report:
                        self._leader.outbox.append(report)
        while self._reader is not None and self._reader.arrived:
            request_id, relayed = self._reader.arrived.popleft()
            self._leader.arrived(request_id, relayed=relayed)
        try:
            while self._frontend is not None and (received := self._frontend.receive_nowait()) is not None:
                match received[0]:
                    case Submit() as submit:
                        self._leader.submit(submit)
                    case Abort() as abort:
                        self._leader.abort(abort)
        except LinkError:
            self._detach()

    def _attach(self, epoch: int, descriptor: int, stream: int) -> None:
        self._detach()
        self._frontend = Link(descriptor, ToLeader)
        self._reader = ParcelReader(
            socket.socket(fileno=stream),
            self._parcels,
            self._wake,
            followers=self._streams,
            limit_s=self._limit_s,
            frame_bytes_max=self._frame_bytes_max,
        )
        self._epoch = epoch

    def _detach(self) -> None:
        """The front end is gone: nobody waits for what it submitted."""
        if self._frontend is not None:
            self._frontend.close()
            self._frontend = None
        if self._reader is not None:
            self._reader.close()
            for request_id, relayed in self._reader.arrived:
                self._leader.arrived(request_id, relayed=relayed)
            self._reader = None
        self._leader.abort_all()

    def _acknowledge(self) -> None:
        if self._acknowledged_epoch != self._epoch and self._leader.settled:
            self._acknowledged_epoch = self._epoch
            self._leader.outbox.clear()
            self._leader.outbox.append(Attached(self._epoch))

    def _report(self) -> None:
        """Say where everything stands, about once a second; `_wait` says it too, before it waits."""
        if self._member.clock.due():
            self._leader.outbox.append(self._member.clock.report())
        now_s = time.monotonic()
        if now_s - self._reported_s >= REPORT_SECONDS:
            self._reported_s = now_s
            self._leader.outbox.append(self._leader.progress())

    def _flush(self) -> None:
        outbox = self._leader.outbox
        if self._frontend is None:
            outbox.clear()
        try:
            while self._frontend is not None and outbox and self._frontend.send_nowait(outbox[0]):
                outbox.popleft()
        except PeerGone:
            self._detach()
        if len(outbox) > OUTBOX_MAX:
            # Its link cannot be made anew while it lives: the supervisor replaces the group and connects the next one.
            raise PeerStalled("the front end does not read its messages")

    def _wait(self) -> None:
        """Idle: until a message comes, or it is time to beat."""
        if self._frontend is not None and not self._leader.outbox:
            self._leader.outbox.append(self._leader.progress())
            self._flush()
        poller = select.poll()
        poller.register(self._control.link, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        for link in (*self._followers, *([self._frontend] if self._frontend else [])):
            poller.register(link, select.POLLIN)
        if self._frontend is not None and self._leader.outbox:
            poller.register(self._frontend, select.POLLIN | select.POLLOUT)
        with self._member.clock.outside():
            poller.poll(BEAT_SECONDS * 1000)
        self._wake.clear()


def _device(config: Config, rank: int, tp: int) -> torch.device:
    if config.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.device_count() < tp:
        raise ValueError(
            f"--device cuda: torch sees {torch.cuda.device_count()} of them for {tp} ranks; try --device cpu"
        )
    return torch.device("cuda", rank)


def _join(store_descriptor: int, rank: int, tp: int, device: torch.device, config: Config) -> None:
    """Join the process group. The rendezvous is a file without a name: nothing listens, nothing is left over."""
    if tp == 1:
        return
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(tp)}
    store = dist.FileStore(  # type: ignore[attr-defined]
        f"/proc/self/fd/{store_descriptor}", tp
    )
    backend = "gloo"
    if device.type == "cuda":  # needs one GPU per rank: not run by this project's tests
        torch.cuda.set_device(device)
        backend = "nccl"
    # Longer than the stall limit: the supervisor's decision comes first. A group is replaced, never repaired.
    timeout = timedelta(seconds=60 + 4 * config.stall_seconds)
    dist.init_process_group(backend, store=store, rank=rank, world_size=tp, timeout=timeout)


def _check_heads(config: Config, tp: int) -> None:
    text = AutoConfig.from_pretrained(config.model_folder, trust_remote_code=False).get_text_config()
    for name in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(text, name, None)
        if heads and heads % tp:
            raise ValueError(f"--tp {tp} does not divide its {name} ({heads})")


def _ports(
    config: Config,
    rank: int,
    tp: int,
    processors: Processors,
    inbox: Inbox,
    parcels: Parcels,
    clock: LoopClock,
) -> Ports:
    """What this rank's deliveries work with. Every rank must call it: groups are made by all ranks together."""
    groups = [dist.new_group(backend="gloo") if tp > 1 else None for _ in range(2)]
    return Ports(
        rank=rank,
        size=tp,
        materialise=partial(materialise, processors),
        view=inbox.tensors,
        parcels=parcels,
        in_step=TimedBroadcast(ObjectBroadcast(groups[0], rank), clock),
        in_lane=TimedBroadcast(ObjectBroadcast(groups[1], rank), clock),
        lane=Lane(waiting_max=config.running_max),
        pool=ThreadPoolExecutor(config.delivery_threads, "materialise"),
        item_seconds=config.item_seconds,
    )


def _load(config: Config, store: int, rank: int, tp: int, inbox: Inbox, control: Control, clock: LoopClock) -> Loaded:
    """Join the group and load what `--runner` says. Raises Unsupported, ValueError, OSError."""
    device = _device(config, rank, tp)
    _join(store, rank, tp, device, config)
    processors = choose(config)
    processors.warm()
    if config.runner != "hf":
        step_ms = 0.0 if config.runner == "null" else float(config.runner.removeprefix("sim:"))
        plain = {modality: Rebuild(form, torch.float32) for modality, form in processors.byte_forms.items()}
        null = NullRunner(rank=rank, clock=clock, rebuild=plain, step_ms=step_ms)
        return Loaded(null, processors, frozenset(), "float32", 1)
    _check_heads(config, tp)
    model = _model(config, tp, device)
    rebuild = {modality: Rebuild(form, model.dtype, device) for modality, form in processors.byte_forms.items()}
    probe = Probe(processors, tokens_of(config.model_folder))
    control.tell(Probing())  # every rank says it: the one that dies first may not be the leader
    runner = Runner(model, probe.inbox(copy=False), rank=rank, device=device, clock=clock, rebuild=rebuild)
    kv_bytes_per_token = verify(runner, probe.submit, probe.features(copy=config.copy_features))
    runner = Runner(model, inbox, rank=rank, device=device, clock=clock, rebuild=rebuild)
    dtype = str(model.dtype).removeprefix("torch.")
    return Loaded(runner, processors, _end_tokens(model), dtype, kv_bytes_per_token)


def _model(config: Config, tp: int, device: torch.device) -> Any:
    options: dict[str, Any] = {"dtype": torch.float32 if device.type == "cpu" else "auto"}
    if tp > 1:
        options["distributed_config"] = DistributedConfig(tp_size=tp, tp_plan="auto")
    elif device.type == "cuda":
        options["device_map"] = device
    model = AutoModelForMultimodalLM.from_pretrained(
        config.model_folder, attn_implementation="sdpa", trust_remote_code=False, **options
    )
    return model.eval()


def _end_tokens(model: Any) -> frozenset[int]:
    for source in (model.generation_config, model.config.get_text_config()):
        tokens = getattr(source, "eos_token_id", None)
        if tokens is not None:
            return frozenset([tokens] if isinstance(tokens, int) else tokens)
    return frozenset()
