"""`delayed-async`: raw media is broadcast in the background, and every rank materialises in the background (C3).

This combines C1 and C2. The collectives keep their order in the lane. Making features from the media needs no
collective, so it runs in a pool, and the next broadcast does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial

from mmplane.core.errors import unavailable
from mmplane.delivery.delayed import made, raw
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends
from mmplane.delivery.exchange import exchange
from mmplane.delivery.ports import Ports


@dataclass
class Pending:
    """An order in progress."""

    order: Order
    future: Future[Delivered] = field(default_factory=Future)
    cancelled: bool = False


class DelayedAsync(Delivery):
    """The lane and the pool of every rank."""

    name = "delayed-async"
    sends = Sends.MEDIA
    background = True

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self._pending: dict[int, Pending] = {}

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Put all orders into the lane."""
        futures = []
        for order in orders:
            self._pending[order.request_id] = pending = Pending(order)
            self._ports.lane.submit(partial(self._carry, pending))
            futures.append(pending.future)
        return futures

    def cancel(self, request_id: int) -> None:
        """Do not materialise it if that has not begun. Its collective is entered anyway."""
        pending = self._pending.get(request_id)
        if pending is not None:
            pending.cancelled = True

    def close(self) -> None:
        """Finish. Everything that the lane has carried is still made."""
        self._ports.lane.close(self._ports.item_seconds)
        wait([pending.future for pending in list(self._pending.values())], self._ports.item_seconds)

    def _carry(self, pending: Pending) -> None:
        order = pending.order
        (received,) = exchange(self._ports, self._ports.in_lane, [order], [raw(self._ports, order)])
        self._ports.pool.submit(self._make, pending, received)

    def _make(self, pending: Pending, received: object) -> None:
        if pending.cancelled:
            delivered = Delivered((), unavailable("the request was aborted").failure())
        else:
            delivered = made(self._ports, pending.order, received)
        del self._pending[pending.order.request_id]
        pending.future.set_result(delivered)
