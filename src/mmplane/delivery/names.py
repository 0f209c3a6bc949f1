"""The deliveries by name, in the order of the analyses."""

from __future__ import annotations

from mmplane.delivery.arena import Arena
from mmplane.delivery.delayed import Delayed
from mmplane.delivery.delayed_async import DelayedAsync
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.eager import Eager
from mmplane.delivery.eager_compact import EagerCompact
from mmplane.delivery.leader import Leader
from mmplane.delivery.leader_async import LeaderAsync
from mmplane.delivery.leader_batch import LeaderBatch
from mmplane.delivery.original import Original

DELIVERIES: dict[str, type[Delivery]] = {
    kind.name: kind
    for kind in (Original, Leader, LeaderBatch, LeaderAsync, Delayed, DelayedAsync, Eager, EagerCompact, Arena)
}
