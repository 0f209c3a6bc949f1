"""`leader`: the leader materialises and broadcasts the object, one request after another, in the step (the commit).

The work is done once, but the leader does all of it alone and pickles the result. Every rank waits for the leader's
decoding, for the pickling and for the collective.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from mmplane.core.errors import Failure
from mmplane.core.plan import NOTHING
from mmplane.delivery.attempt import attempt
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends, done
from mmplane.delivery.exchange import exchange
from mmplane.delivery.ports import Ports


class Leader(Delivery):
    """What the incident's commit does."""

    name = "leader"
    sends = Sends.MEDIA
    once = True

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Run one collective for each order."""
        return [done(self._lead(order)) for order in orders]

    def _lead(self, order: Order) -> Delivered:
        made = lead(self._ports, order)
        (received,) = exchange(self._ports, self._ports.in_step, [order], [made])
        return take(self._ports, received)


def lead(ports: Ports, order: Order) -> Delivered | Failure | None:
    """What the leader shares: the features, or why there are none. None on a follower."""
    if not ports.leads:
        return None
    return attempt(lambda: ports.make(order))


def take(ports: Ports, received: object) -> Delivered:
    """What was shared, as this rank's result. The leader did the work."""
    if isinstance(received, Failure):
        return Delivered((), received)
    assert isinstance(received, Delivered)
    return received if ports.leads else replace(received, work=NOTHING)
