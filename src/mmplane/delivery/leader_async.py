"""`leader-async`: the leader materialises in a pool of threads and broadcasts in the background (A3, C2).

The loop does not wait. Whatever order the pool finishes in, the lane broadcasts in the order of the plans, which every
rank knows, so the ranks' collectives cannot be mixed up. What remains is the leader's work, the pickling, and the
interpreter's lock that both share with the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import partial

from mmplane.core.errors import Failure, unavailable
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends
from mmplane.delivery.exchange import exchange
from mmplane.delivery.leader import lead, take
from mmplane.delivery.ports import Ports

Made = Future[Delivered | Failure | None]


class LeaderAsync(Delivery):
    """A pool on the leader, a lane on every rank."""

    name = "leader-async"
    sends = Sends.MEDIA
    once = True
    background = True

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self._making: dict[int, Made] = {}

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Put the work into the pool, and its result into the lane."""
        return [self._submit(order) for order in orders]

    def cancel(self, request_id: int) -> None:
        """Do not materialise it if that has not begun; the collective is entered with a failure instead."""
        making = self._making.get(request_id)
        if making is not None:
            making.cancel()

    def close(self) -> None:
        """Finish what has begun and fail the rest; the lane still broadcasts both."""
        for making in list(self._making.values()):
            making.cancel()
        self._ports.lane.close(self._ports.item_seconds)

    def _submit(self, order: Order) -> Future[Delivered]:
        future: Future[Delivered] = Future()
        if self._ports.leads:
            self._making[order.request_id] = self._ports.leader_pool.submit(lead, self._ports, order)
        self._ports.lane.submit(partial(self._carry, order, future))
        return future

    def _carry(self, order: Order, future: Future[Delivered]) -> None:
        (received,) = exchange(self._ports, self._ports.in_lane, [order], [self._made(order)])
        self._making.pop(order.request_id, None)
        future.set_result(take(self._ports, received))

    def _made(self, order: Order) -> Delivered | Failure | None:
        making = self._making.get(order.request_id)
        if making is None:
            return None
        try:
            return making.result(timeout=self._ports.item_seconds)
        except CancelledError:
            return unavailable("the request was aborted").failure()
        except TimeoutError:
            return unavailable("an item took too long to process").failure()
