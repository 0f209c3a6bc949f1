"""The contract of a delivery: one way to get a request's features to every rank.

The front end chooses a delivery by name for each request; every rank learns it from the plan that prepares the request.
The front end's half is only a declaration (`sends`). The half that runs on a rank is this class.

Who materialises. The front end's workers (`Sends.SLOTS`), the front end itself before it sends (`Sends.FEATURES`), or
    ranks (`Sends.MEDIA`): each of them, or the leader alone.
What is ordered. `begin` is called on every rank with the same orders, in the order of the plans. A delivery that uses
    collectives enters the same ones in the same order on all ranks, whatever happens to an order: a failure is a
    payload, never a missing call (invariant 4). No rank decides by what only that rank knows (invariant 3).
What may block. A synchronous delivery works inside `begin`, so the step waits for it, which is what the baselines are
    meant to show. A background delivery returns at once; its collectives go through the rank's one `Lane`.
How ranks agree. A rank that has an order's features encodes them and sends `Held`. The leader admits a request when all
    ranks have sent it, and drops it on all of them if one has failed. So ranks may finish at different times.
Who frees memory. Nobody has to: features are private memory that ends with its last user, or views of the arena, whose
    leases belong to the front end. A rank drops a parcel when its order is done.

With one rank, no collective is entered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self

import torch

from mmplane.core.errors import Failure
from mmplane.core.faults import Fault
from mmplane.core.plan import NOTHING, Submit, Work
from mmplane.core.records import Enclosed, Item
from mmplane.delivery.ports import Ports

Features = dict[str, torch.Tensor]
"""One item's tensors by name, on the CPU, in the encoding for transport. The caller must not write to them."""


class Sends(Enum):
    """What the front end sends to the ranks."""

    SLOTS = "slots"
    """A record: the features are in the arena."""
    MEDIA = "media"
    """The encoded media, inline."""
    FEATURES = "features"
    """The finished features, inline."""


@dataclass(frozen=True)
class Order:
    """The features to deliver: these items of one request (items in the rank's cache are not included).

    `request_id` is the same on all ranks. In another engine (`mmplane.engines`), items are that engine's own objects.
    """

    request_id: int
    items: tuple[Any, ...]
    fault: Fault | None = None
    feature_hash: bool = False

    @classmethod
    def of(cls, submit: Submit, items: tuple[Item | Enclosed, ...]) -> Self:
        """These items of a request."""
        return cls(submit.request_id, items, submit.fault, submit.feature_hash)


@dataclass(frozen=True)
class Delivered:
    """The result of an order on this rank: the features (`Features`) of its items in order, or the failure.

    In another engine it is whatever that engine builds for each item. `hashes` are those of the features
    (`mmplane.delivery.feature_hash`), unless hashing is off.
    """

    features: tuple[Any, ...]
    failure: Failure | None = None
    work: Work = NOTHING
    hashes: tuple[int, ...] = ()


class Delivery(ABC):
    """The half of a delivery that runs on one rank. Only the rank's loop calls it."""

    name: ClassVar[str]
    sends: ClassVar[Sends]
    once: ClassVar[bool] = False
    """Invariant 1: one materialisation serves all ranks."""
    in_place: ClassVar[bool] = False
    """Invariant 2: the transform's last write is the only write of the features."""
    background: ClassVar[bool] = False
    """Whether the step continues in the meantime."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    @abstractmethod
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Start all orders of one plan. One future each, without exceptions; if synchronous, all are done."""

    def cancel(self, request_id: int) -> None:  # noqa: B027 - most have nothing to cancel
        """Nobody waits for this order: save work if possible. Its future still gets a value. Idempotent."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """No more orders will come: finish or fail pending ones, on every rank, and wait for them. Idempotent."""


def done(delivered: Delivered) -> Future[Delivered]:
    """A future that already has its value."""
    future: Future[Delivered] = Future()
    future.set_result(delivered)
    return future
