"""`arena`: workers write features into shared memory that every rank maps; a record says where (B4 and later).

Nothing is copied, pickled or waited for, so the cost of a request on a rank does not depend on its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from mmplane.core.records import Item
from mmplane.delivery.attempt import delivered
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends, done
from mmplane.delivery.faults import strike
from mmplane.delivery.rank_ports import RankPorts


class Arena(Delivery):
    """Returns views over the mapping."""

    name = "arena"
    sends = Sends.SLOTS
    once = True
    in_place = True

    def __init__(self, ports: RankPorts) -> None:
        super().__init__(ports)
        self._view_of = ports.view

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Make a tensor over the slot for each item."""
        return [done(delivered(partial(self._view, order))) for order in orders]

    def _view(self, order: Order) -> Delivered:
        strike(order.fault, "view", self._ports.rank)
        return Delivered(tuple(self._view_of(item) for item in order.items if isinstance(item, Item)))
