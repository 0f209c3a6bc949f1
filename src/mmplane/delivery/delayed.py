"""`delayed`: the leader broadcasts the raw media and every rank materialises it, in the step (C1).

This pickles less than `leader`, and the ranks decode at the same time. But they do N times the work, and the loop waits
for it. On one machine they also share its cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from mmplane.core.errors import Failure
from mmplane.delivery.attempt import attempt, delivered
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends, done
from mmplane.delivery.exchange import exchange
from mmplane.delivery.ports import Ports


class Delayed(Delivery):
    """Raw media in the step's collective."""

    name = "delayed"
    sends = Sends.MEDIA

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Run one collective for each order, then do the work."""
        return [done(self._carry(order)) for order in orders]

    def _carry(self, order: Order) -> Delivered:
        (received,) = exchange(self._ports, self._ports.in_step, [order], [raw(self._ports, order)])
        return made(self._ports, order, received)


def raw(ports: Ports, order: Order) -> object:
    """What the leader shares: the encoded media, or why there is none. None on a follower."""
    if not ports.leads:
        return None
    return attempt(lambda: ports.raw(order))


def made(ports: Ports, order: Order, received: object) -> Delivered:
    """The features, made here from what was shared."""
    if isinstance(received, Failure):
        return Delivered((), received)
    return delivered(lambda: ports.make(order, received))
