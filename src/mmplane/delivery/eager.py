"""`eager`: the front end materialises before it sends, and every rank gets the features inline (A1, B1, B2).

The work is done once, and no rank's loop decodes anything. What remains is the transfer of the features: through a
socket to the leader and through others to the followers, with a copy each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from mmplane.core.records import Enclosed
from mmplane.delivery.attempt import delivered
from mmplane.delivery.compact import unpack
from mmplane.delivery.delivery import Delivered, Delivery, Features, Order, Sends, done
from mmplane.delivery.faults import strike
from mmplane.delivery.make import contents, make
from mmplane.delivery.rank_ports import RankPorts
from mmplane.delivery.tensors import tensors_of


class Eager(Delivery):
    """Returns tensors over the parcel."""

    name = "eager"
    sends = Sends.FEATURES
    once = True

    def __init__(self, ports: RankPorts) -> None:
        super().__init__(ports)
        self._rank_ports = ports

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Return tensors; all work has been done already."""
        return [done(delivered(partial(self._view, order))) for order in orders]

    def _view(self, order: Order) -> Delivered:
        strike(order.fault, "view", self._ports.rank)
        parcel = contents(self._rank_ports, order)
        if all(isinstance(item, Enclosed) and item.media for item in order.items):
            return make(
                self._rank_ports, order, parcel
            )  # --materialise lazy: built in the front end, decoded on first access
        items = [item for item in order.items if isinstance(item, Enclosed)]
        features = tuple(_tensors(item, content) for item, content in zip(items, parcel, strict=True))
        return Delivered(features, hashes=tuple(item.feature_hash for item in items if item.feature_hash is not None))


def _tensors(item: Enclosed, content: memoryview) -> Features:
    return tensors_of(item.tensors, unpack(content) if item.packed else content)
