"""`eager`: the front end materialises before it sends, and every rank gets the finished features inline (A1, B1, B2).

The work is done once and no rank's loop decodes anything. What remains is the features' way: through a socket to the
leader, through others to the followers, copied each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from mmplane.core.records import Enclosed, Item
from mmplane.delivery.attempt import delivered
from mmplane.delivery.compact import unpack
from mmplane.delivery.delivery import Delivered, Delivery, Features, Order, Sends, done
from mmplane.delivery.faults import strike
from mmplane.delivery.make import contents, make
from mmplane.delivery.tensors import tensors_of


class Eager(Delivery):
    """Tensors over the parcel."""

    name = "eager"
    sends = Sends.FEATURES
    relayed = True
    once = True

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Nothing is left to do but to look."""
        return [done(delivered(partial(self._view, order))) for order in orders]

    def _view(self, order: Order) -> Delivered:
        strike(order.submit.fault, "view", self._ports.rank)
        parcel = contents(self._ports, order)
        if all(isinstance(item, Enclosed) and item.media for item in order.items):
            return make(self._ports, order, parcel)  # --materialise lazy: built in the front end, decoded on a look
        return Delivered(tuple(_tensors(item, content) for item, content in zip(order.items, parcel, strict=True)))


def _tensors(item: Item | Enclosed, content: memoryview) -> Features:
    assert isinstance(item, Enclosed)
    return tensors_of(item.tensors, unpack(content) if item.packed else content)
