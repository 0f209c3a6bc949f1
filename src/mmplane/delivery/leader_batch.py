"""`leader-batch`: the leader materialises all new requests of a step and broadcasts them in one collective (D1).

It needs fewer collectives for the same bytes, and the step takes as long as the sum of the batch. The results wait in a
limited cache until their request pops them by its id, as in the analysis. Unlike there, a result that does not fit is a
failure that all ranks see in the same way, because all have the same batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future

from mmplane.core.errors import internal
from mmplane.delivery.delivery import Delivered, Delivery, Order, Sends, done
from mmplane.delivery.exchange import exchange
from mmplane.delivery.leader import lead, take
from mmplane.delivery.meter import Meter
from mmplane.delivery.ports import Ports

RESULTS_MAX = 1000


class ResultCache:
    """Results by request id; the oldest are dropped above `RESULTS_MAX`."""

    def __init__(self, meter: Meter) -> None:
        self._results: OrderedDict[int, Delivered] = OrderedDict()
        self._meter = meter

    def put(self, request_id: int, delivered: Delivered) -> None:
        """Keep a result until it is popped."""
        self._results[request_id] = delivered
        while len(self._results) > RESULTS_MAX:
            self._results.popitem(last=False)
        self._meter.result_kept(len(self._results))

    def pop(self, request_id: int) -> Delivered:
        """The request's result, or a failure if it was dropped."""
        self._meter.result_asked(found=request_id in self._results)
        lost = internal("the result of this request was dropped from a full batch").failure()
        return self._results.pop(request_id, Delivered((), lost))


class LeaderBatch(Delivery):
    """One collective for the new requests of a step."""

    name = "leader-batch"
    sends = Sends.MEDIA
    once = True

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self._results = ResultCache(ports.meter)

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Make all of them, then broadcast once."""
        made = [lead(self._ports, order) for order in orders]
        received = exchange(self._ports, self._ports.in_step, orders, made)
        for order, payload in zip(orders, received, strict=True):
            self._results.put(order.request_id, take(self._ports, payload))
        return [done(self._results.pop(order.request_id)) for order in orders]
