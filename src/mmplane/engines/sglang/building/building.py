"""One rank's requests with media: begun in the order of their messages, admitted when all ranks have their inputs.

Every request with media is in the agreement. One that names no design passes as it came; one whose features this rank
alone could not read is a failure on all. So what is held, admitted and failed in a step depends on messages and on what
is agreed, never on this rank alone.
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
"""How long a build in the background may take."""
AS_IT_CAME = ""
"""Stands for a design where a message names none."""
TOO_MANY = overloaded("too many requests with media are being prepared").failure()
WAIT_S = 0.005
"""How long an idle rank waits for its own builds before it looks at messages again."""


class Building:
    """Built and settled on the scheduler's thread.

    `refusal` makes of a text what SGLang takes in the place of inputs that could not be had.
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
        """What SGLang shall handle in this step: `messages` without the requests held back, after those held before."""
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
        """Requests held back that SGLang's abort means: each gets a refusal, to be handled before the abort."""
        found = self._pending.abandon(lambda request: everything or request.rid.startswith(rid))
        for entry, request in found:
            if entry.design != AS_IT_CAME:
                self._deliveries[entry.design].cancel(entry.order.request_id)
            request.mm_inputs = self._refusal("The request was aborted.")
        return [request for _, request in found]

    def wait(self) -> None:
        """Nothing else is to be done: wait a little for what is being built here."""
        self._pending.wait_for_one(WAIT_S)

    def _begin(self, messages: Sequence[Any]) -> None:
        """Start building what is new, design by design. Every request with media is pending then, in message order."""
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
        """The futures by request id. Designs begin in the order in which their first requests came."""
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
        """The messages, whole where nothing of them is held back, otherwise what is not."""
        for message in messages:
            members = list(_requests(message))
            if not any(map(self._pending.holds, members)):
                yield message
            else:
                yield from (member for member in _members(message) if not self._pending.holds(member))

    def _say(self, name: str) -> None:
        """One line where the design changes."""
        if name != self._last:
            log.info(
                "mmplane: rank %d: %s builds from here on; before it %s built %d, failed %d, %d collective(s) so far",
                self._rank, name, self._last or "nothing", self._built[True], self._built[False], self._meter.count,
            )  # fmt: skip
            self._last = name
            self._built.clear()


def order_of(number: int, request: Any) -> Order:
    """What the delivery is asked for: one item."""
    return Order(number, (request.mm_inputs,))


def _as_it_came(mm_inputs: Any) -> Delivered:
    """What SGLang builds by itself; a failure where features could not be read, and a refusal is in their place."""
    if hasattr(mm_inputs, "mm_items"):
        return Delivered((mm_inputs,))
    return Delivered((), internal(mm_inputs.message).failure())


def _members(message: Any) -> Sequence[Any]:
    """The requests of a batch, or the message."""
    return getattr(message, "batch", None) or (message,)


def _requests(message: Any) -> Iterator[Any]:
    """Those that have multimodal inputs."""
    return (one for one in _members(message) if getattr(one, "mm_inputs", None) is not None)


def _is_in_a_session(request: Any) -> bool:
    """Whether what comes after it may go on from it: then nothing may overtake it."""
    return bool(getattr(request, "session_id", None) or getattr(request, "session_params", None))
