"""The designs by name, in the order of the analyses."""

from __future__ import annotations

from mmplane.engines.sglang.designs.arena import Arena
from mmplane.engines.sglang.designs.default import Default
from mmplane.engines.sglang.designs.delayed import Delayed
from mmplane.engines.sglang.designs.delayed_async import DelayedAsync
from mmplane.engines.sglang.designs.design import Design
from mmplane.engines.sglang.designs.eager import Eager
from mmplane.engines.sglang.designs.leader import Leader
from mmplane.engines.sglang.designs.leader_async import LeaderAsync
from mmplane.engines.sglang.designs.leader_batch import LeaderBatch

DESIGNS: dict[str, Design] = {
    kind.name: kind() for kind in (Default, Leader, LeaderBatch, LeaderAsync, Delayed, DelayedAsync, Eager, Arena)
}
