"""`eager`: the front end materialises before it sends, and every rank gets the finished features inline (A1, B1, B2).

The work is done once and no rank's loop decodes anything. What remains is the features' way: through a socket to the
leader, through others to the followers, copied each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from mmplane.core.errors import Failure
from mmplane.core.records import Enclosed, Item
from mmplane.delivery.attempt import attempt
from mmplane.delivery.compact import unpack
from mmplane.delivery.delivery import Delivered, Delivery, Features, Order, Sends, done
from mmplane.delivery.faults import strike
from mmplane.delivery.lazy import LazyItem
from mmplane.delivery.make import contents
from mmplane.features.tensors import tensors_of


class Eager(Delivery):
    """Tensors over the parcel."""

    name = "eager"
    sends = Sends.FEATURES
    relayed = True
    once = True

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Nothing is left to do but to look."""
        return [done(self._view(order)) for order in orders]

    def _view(self, order: Order) -> Delivered:
        viewed = attempt(lambda: self._features(order))
        return Delivered((), viewed) if isinstance(viewed, Failure) else Delivered(viewed)

    def _features(self, order: Order) -> tuple[Features, ...]:
        strike(order.submit.fault, "view", self._ports.rank)
        parcel = contents(self._ports, order)
        return tuple(self._item(item, content) for item, content in zip(order.items, parcel, strict=True))

    def _item(self, item: Item | Enclosed, content: memoryview) -> Features:
        assert isinstance(item, Enclosed)
        if item.media:  # --materialise lazy: the object was built in the front end, and is decoded by who looks first
            return LazyItem(content, item.recipe, self._ports.materialise).features
        return tensors_of(item.tensors, unpack(content) if item.packed else content)
