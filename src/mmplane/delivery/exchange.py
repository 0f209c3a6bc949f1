"""Shares the leader's payloads with all ranks: one collective for a step's orders, entered even after a failure."""

from __future__ import annotations

from collections.abc import Sequence

from mmplane.core.errors import Failure
from mmplane.core.faults import Point
from mmplane.delivery.attempt import attempt
from mmplane.delivery.delivery import Order
from mmplane.delivery.faults import strike
from mmplane.delivery.ports import Broadcast, Ports


def exchange(ports: Ports, broadcast: Broadcast, orders: Sequence[Order], payloads: Sequence[object]) -> list[object]:
    """The payload of each order on this rank: the leader's (other ranks may pass anything), or a `Failure`.

    A failure of the leader becomes every rank's failure. This rank reports a failure of its own, which becomes every
    rank's failure through the plan.
    """
    before = [_struck(order, "before_collective", ports.rank) for order in orders]
    sent = [failure or payload for failure, payload in zip(before, payloads, strict=True)]
    received = broadcast(sent, [order.fault for order in orders])
    after = [_struck(order, "after_collective", ports.rank) for order in orders]
    return [first or last or payload for first, last, payload in zip(before, after, received, strict=True)]


def _struck(order: Order, point: Point, rank: int) -> Failure | None:
    return attempt(lambda: strike(order.fault, point, rank))
