"""Wraps SGLang's scheduler: the handling of a step's messages, aborts, and the idle sleep.

The first step creates this rank's half. All ranks are there at the same time, because SGLang's broadcast of the
messages has just synchronised them, so together they can create a process group for the lane.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch.distributed as dist
from sglang.srt.managers.io_struct import MMInputsProcessError

from mmplane.delivery.lane import Lane
from mmplane.delivery.meter import Meter
from mmplane.delivery.object_collective import ObjectBroadcast
from mmplane.engines.sglang.building.building import ITEM_SECONDS, Building
from mmplane.engines.sglang.building.choice import wanted
from mmplane.engines.sglang.building.pending import PENDING_MAX, Pending
from mmplane.engines.sglang.building.ports import EnginePorts, least
from mmplane.engines.sglang.designs.names import DESIGNS
from mmplane.engines.sglang.versions import build

LEADER_THREADS = 4
"""The threads of A3."""
THREADS = 2
"""The threads of C2."""


def process(original: Callable[..., None], self: Any, recv_reqs: list[Any]) -> None:
    """Wraps `Scheduler.process_input_requests`."""
    building = _building(self)
    return original(self, recv_reqs if building is None else building.admit(recv_reqs))


def abort(original: Callable[..., None], self: Any, recv_req: Any) -> None:
    """Wraps `Scheduler.abort_request`: a held request first becomes a request of SGLang's, which it then aborts."""
    building = _building(self)
    if building is not None:
        for request in building.abandon(recv_req.rid, everything=recv_req.abort_all):
            self._request_dispatcher(request)
    return original(self, recv_req)


def sleep(original: Callable[..., None], self: Any) -> None:
    """Wraps `Scheduler.maybe_sleep_on_idle`, which would sleep until the next message."""
    building = _building(self)
    if building is None or building.is_empty:
        return original(self)
    return building.wait()


def _building(scheduler: Any) -> Building | None:
    """This rank's half, created by the first step; None if the server was started without a design."""
    if not hasattr(scheduler, "mmplane_building"):
        scheduler.mmplane_building = None if wanted() is None else _make(scheduler)
    building: Building | None = scheduler.mmplane_building
    return building


def _make(scheduler: Any) -> Building:
    group = scheduler.dp_tp_group
    shared = group.world_size > 1
    in_step = scheduler.dp_tp_cpu_group if shared else None
    in_lane = dist.new_group(group.ranks, backend="gloo", use_local_synchronization=True) if shared else None
    meter = Meter()

    def ports(build: Callable[[Any], Any]) -> EnginePorts:
        return EnginePorts(
            rank=group.rank_in_group,
            size=group.world_size,
            in_step=ObjectBroadcast(in_step, group.rank_in_group, meter, source=group.first_rank),
            in_lane=ObjectBroadcast(in_lane, group.rank_in_group, meter, source=group.first_rank),
            lane=lane,
            pool=pool,
            leader_pool=leader_pool,
            item_seconds=ITEM_SECONDS,
            meter=meter,
            build=build,
        )

    # Both background designs share the lane, so collectives keep one order even if the design is switched.
    lane = Lane(waiting_max=PENDING_MAX)
    pool, leader_pool = ThreadPoolExecutor(THREADS, "build"), ThreadPoolExecutor(LEADER_THREADS, "build")
    here = ports(lambda mm_inputs: build(mm_inputs, scheduler.model_config))
    as_sglang = ports(scheduler._get_multimodal_inputs)
    deliveries = {name: design.delivery(as_sglang if design.as_sglang else here) for name, design in DESIGNS.items()}
    pending = Pending(partial(least, in_step))
    return Building(group.rank_in_group, deliveries, pending, MMInputsProcessError, meter)
