"""A rank process: joins the group, loads its share of the model, and turns plans into tokens.

The loops of the leader and of a follower only differ in where plans come from. Neither waits for media, for the front
end or for the supervisor. Both wait for plans, and for each other inside the collectives of a step.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import RanksReady, Ready, Spawn, ToRank, Unloadable
from mmplane.core.plan import FromFollower, Plan
from mmplane.delivery.lane import Lane
from mmplane.delivery.meter import Meter
from mmplane.delivery.names import DELIVERIES
from mmplane.delivery.object_collective import ObjectBroadcast
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.rank_ports import RankPorts
from mmplane.features.choice import Processors
from mmplane.features.facts import reason
from mmplane.media.materialise import materialise
from mmplane.process.child import Control
from mmplane.process.heart import Heart
from mmplane.process.priority import unhurried
from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.loading import collective_limit, load
from mmplane.ranks.model.meeting import Place
from mmplane.ranks.model.sums import Sums, use
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.embedding_table import EmbeddingTable
from mmplane.ranks.plan.following import follow
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.leader import Leader
from mmplane.ranks.plan.leading import LeaderLoop
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.member import Member
from mmplane.ranks.plan.reader import ParcelReader
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.wake import Wake
from mmplane.wire.link import Link

log = logging.getLogger("mmplane")


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve as rank `spawn.index` until the supervisor ends the process."""
    # Features are read-only on purpose (invariant 7).
    warnings.filterwarnings("ignore", "The given buffer is not writable")
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    control = Control(Link(descriptors["control"], ToRank))
    rank, tp = spawn.index, spawn.of
    place = Place.of(rank, tp, descriptors)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // place.ranks_here))
    inbox = _inbox(config, descriptors)
    meter = Meter()
    heart = Heart(control, limit_s=max(0.0, config.compute_stall_seconds - config.stall_seconds))
    clock = LoopClock(rank, meter, heart=heart)
    peers = [socket.socket(fileno=descriptors[f"sums{other}"]) for other in range(tp) if other != rank]
    use(Sums(rank, peers, limit=collective_limit(config)))
    try:
        loaded = load(config, place, Gathering(rank, peers), inbox, control, clock)
    except Exception as error:
        # A DistError, or one of gloo, means that another rank has ended, which the supervisor knows.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            control.tell(Unloadable(f"the model cannot be served: {reason(config.model_folder, error)}"))
            raise SystemExit(1) from error
        raise
    parcels, wake = Parcels(), Wake()
    ports = _ports(config, rank, tp, loaded.processors, inbox, parcels, meter)
    deliveries = {name: kind(ports) for name, kind in DELIVERIES.items()}
    if config.prefix_cache and loaded.not_reused is not None:
        log.warning("rank %d: --prefix-cache has no effect: %s", rank, loaded.not_reused)
    schedule = Schedule(
        config.prefill_tokens,
        Blocks(loaded.room.blocks),
        lambda submit: submit.prompt if submit.prompt_slot is None else inbox.content(submit.prompt_slot),
        reuses=loaded.not_reused is None,
        whole_runs=loaded.whole_runs,
    )
    member = Member(loaded.runner, schedule, rank, deliveries, parcels, wake, clock, copy=config.copy_features)
    if rank == 0:
        leader = Leader(
            tp=tp,
            schedule=schedule,
            running_max=config.running_max,
            end_tokens=loaded.end_tokens,
            tenants=config.tenants,
            cache_bytes=config.cache_bytes,
            embeddings=EmbeddingTable(config.embedding_cache_bytes, loaded.row_bytes),
            room=loaded.room,
        )
        followers: list[Link[Any]] = [Link(descriptors[f"follower{i}"], FromFollower) for i in range(1, tp)]
        streams = [socket.socket(fileno=descriptors[f"parcels{i}"]) for i in range(1, tp)]
        control.tell(RanksReady(loaded.room.tokens, loaded.dtype))
        LeaderLoop(member, leader, followers, streams, parcels, wake, control, config).run()
    else:
        if place.meeting is not None and place.meeting.first:  # no leader tells the supervisor of another machine
            control.tell(Ready())
        stream = socket.socket(fileno=descriptors["parcels"])
        ParcelReader(stream, parcels, wake, limit_s=config.stall_seconds, frame_bytes_max=config.budget_bytes)
        follow(member, Link(descriptors["leader"], Plan), control, wake, config.stall_seconds)


def _inbox(config: Config, descriptors: dict[str, int]) -> Inbox:
    regions = [
        RegionMapping(descriptors[f"region{i}"], length_bytes, writable=False)
        for i, length_bytes in enumerate(config.region_bytes())
    ]
    return Inbox(regions, copy=config.copy_features)


def _ports(
    config: Config,
    rank: int,
    tp: int,
    processors: Processors,
    inbox: Inbox,
    parcels: Parcels,
    meter: Meter,
) -> RankPorts:
    """The ports of this rank's deliveries. Every rank must call it, because all ranks create groups together."""
    limit = collective_limit(config)  # a group does not inherit it, and torch's default is half an hour
    with unhurried():
        groups = [dist.new_group(backend="cpu:gloo", timeout=limit) if tp > 1 else None for _ in range(2)]
    return RankPorts(
        rank=rank,
        size=tp,
        materialise=partial(materialise, processors),
        view=inbox.tensors,
        parcels=parcels,
        in_step=ObjectBroadcast(groups[0], rank, meter),
        in_lane=ObjectBroadcast(groups[1], rank, meter),
        lane=Lane(waiting_max=config.running_max),
        pool=ThreadPoolExecutor(config.delivery_threads, "materialise"),
        leader_pool=ThreadPoolExecutor(config.leader_threads, "materialise"),
        item_seconds=config.item_seconds,
        meter=meter,
    )
