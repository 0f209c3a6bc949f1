"""`original`: every rank gets the media inline and materialises it for itself, in the step (the baseline).

N ranks do N times the work, and it blocks the loop of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from mmplane.delivery.attempt import delivered
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends, done


class Original(Delivery):
    """What the incident's server did before the commit."""

    name = "original"
    sends = Sends.MEDIA

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Decode and transform now."""
        return [done(delivered(partial(self._ports.make, order))) for order in orders]
