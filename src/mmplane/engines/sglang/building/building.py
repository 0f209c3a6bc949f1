"""One rank's requests with media: started in message order, admitted when all ranks have their inputs.

Every request with media takes part in the agreement. One that names no design passes unchanged. If only this rank
could not read a request's features, the request fails on all ranks. So the requests that are held, admitted and failed
in a step depend on messages and on the agreement, never on this rank alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from mmplane.core.errors import internal, overloaded
from mmplane.delivery.delivery import Delivered, Delivery, Order, done
from mmplane.delivery.meter import Meter
from mmplane.engines.sglang.building.choice import taken
from mmplane.engines.sglang.building.pending import PENDING_MAX, Entry, Pending

log = logging.getLogger("mmplane")

ITEM_SECONDS = 60.0
"""Time limit for a build in the background."""
AS_IT_CAME = ""
"""The name of the path for messages without a design."""
TOO_MANY = overloaded("too many requests with media are being prepared").failure()
WAIT_S = 0.005
"""How long an idle rank waits for its own builds before it looks for messages again."""


class Building:
    """Builds and admits on the scheduler's thread.

    `refusal` turns a text into the value that SGLang accepts in place of inputs that could not be built.
    """

    def __init__(
        self,
        rank: int,
        deliveries: Mapping[str, Delivery],
        pending: Pending,
        refusal: Callable[[str], Any],
        meter: Meter,
    ) -> None:
        self._rank = rank
        self._deliveries = deliveries
        self._pending = pending
        self._refusal = refusal
        self._meter = meter
        self._number = 0
        self._last = ""
        self._built: Counter[bool] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being built."""
        return not len(self._pending)

    def admit(self, messages: Sequence[Any]) -> list[Any]:
        """Return SGLang's messages for this step: requests released now, then `messages` without held requests."""
        self._begin(messages)
        self._pending.wait_for_those_at_once(ITEM_SECONDS)
        before = {id(request) for message in messages for request in _requests(message)}
        earlier = []
        for entry, delivered in self._pending.settle():
            self._built[delivered.failure is None] += 1
            if entry.request is not None:
                entry.request.mm_inputs = self._inputs(delivered)
                if id(entry.request) not in before:
                    earlier.append(entry.request)
        return [*earlier, *self._ready(messages)]

    def abandon(self, rid: str, *, everything: bool) -> list[Any]:
        """Return refusals for the held requests that SGLang aborts, to be handled before the abort."""
        found = self._pending.abandon(lambda request: everything or request.rid.startswith(rid))
        for entry, request in found:
            if entry.design != AS_IT_CAME:
                self._deliveries[entry.design].cancel(entry.order.request_id)
            request.mm_inputs = self._refusal("The request was aborted.")
        return [request for _, request in found]

    def wait(self) -> None:
        """There is nothing else to do: wait a little for builds on this rank."""
        self._pending.wait_for_one(WAIT_S)

    def _begin(self, messages: Sequence[Any]) -> None:
        """Start building new requests, design by design. Every request with media is then pending, in message order."""
        new: list[tuple[Any, Order, str]] = []
        for message in messages:
            for request in _requests(message):
                self._number += 1
                name = taken(request.mm_inputs) or AS_IT_CAME
                new.append((request, order_of(self._number, request), name))
        room = max(0, PENDING_MAX - len(self._pending))
        futures = self._started(new[:room])
        for request, order, name in new:
            future = futures.get(order.request_id) or done(Delivered((), TOO_MANY))
            self._pending.add(Entry(order, name, future, request, _is_in_a_session(request)))

    def _started(self, new: Sequence[tuple[Any, Order, str]]) -> dict[int, Future[Delivered]]:
        """Return the futures by request id. Designs start in the order of their first requests."""
        orders: dict[str, list[Order]] = {}
        for _, order, name in new:
            orders.setdefault(name, []).append(order)
        futures: dict[int, Future[Delivered]] = {}
        for name, group in orders.items():
            if name == AS_IT_CAME:
                begun = [done(_as_it_came(order.items[0])) for order in group]
            else:
                self._say(name)
                begun = self._deliveries[name].begin(group)
            futures |= zip((order.request_id for order in group), begun, strict=True)
        return futures

    def _inputs(self, delivered: Delivered) -> Any:
        return delivered.features[0] if delivered.failure is None else self._refusal(delivered.failure.message)

    def _ready(self, messages: Sequence[Any]) -> Iterator[Any]:
        """Return the messages, reduced to what is not held back."""
        for message in messages:
            members = list(_requests(message))
            if not any(map(self._pending.holds, members)):
                yield message
            else:
                yield from (member for member in _members(message) if not self._pending.holds(member))

    def _say(self, name: str) -> None:
        """Log one line when the design changes."""
        if name != self._last:
            log.info(
                "mmplane: rank %d: %s builds from here on; before it %s built %d, failed %d, %d collective(s) so far",
                self._rank, name, self._last or "nothing", self._built[True], self._built[False], self._meter.count,
            )  # fmt: skip
            self._last = name
            self._built.clear()


def order_of(number: int, request: Any) -> Order:
    """The order for the delivery, with one item."""
    return Order(number, (request.mm_inputs,))


def _as_it_came(mm_inputs: Any) -> Delivered:
    """Return SGLang's item to build, a failure if features could not be read, or the refusal in its place."""
    if hasattr(mm_inputs, "mm_items"):
        return Delivered((mm_inputs,))
    return Delivered((), internal(mm_inputs.message).failure())


def _members(message: Any) -> Sequence[Any]:
    """The requests of a batch, or the message itself."""
    return getattr(message, "batch", None) or (message,)


def _requests(message: Any) -> Iterator[Any]:
    """The requests that have multimodal inputs."""
    return (one for one in _members(message) if getattr(one, "mm_inputs", None) is not None)


def _is_in_a_session(request: Any) -> bool:
    """Whether later requests may continue this one, so that nothing may overtake it."""
    return bool(getattr(request, "session_id", None) or getattr(request, "session_params", None))
