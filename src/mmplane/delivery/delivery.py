"""The contract of a delivery: one way to get a request's features to every rank.

A delivery is chosen by name for each request, by the front end; every rank learns it from the plan that prepares the
request. It has a front end's half, which is only a declaration (`sends`), and a rank's half, which is this class.

Who materialises. The front end's workers (`Sends.SLOTS`), the front end itself before it sends (`Sends.FEATURES`), or
    ranks (`Sends.MEDIA`): each of them, or the leader alone.
What is ordered. `begin` is called on every rank with the same orders, in the order of the plans. A delivery that enters
    collectives enters the same ones in the same order on all ranks, whatever happens to an order: a failure is a
    payload, never a missing call (invariant 4). Nobody decides by what only this rank knows (invariant 3).
What may block. A synchronous delivery works inside `begin`, so the step waits for it: that is what the baselines are
    here to show. A background one returns at once; its collectives go through the rank's one `Lane`.
Who agrees. A rank that has an order's features encodes them and says `Held`; the leader admits a request when all ranks
    have said so, and drops it on all of them when one has failed. So a delivery may finish at other times on other
    ranks.
Who frees. Nobody: features are private memory that goes with its last user, or views of the arena, whose leases are the
    front end's business. Parcels are dropped by the rank when the order is done.

At one rank no collective is entered.
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
"""One item's tensors by name, on the CPU, in transport encoding; the caller may not write into them."""


class Sends(Enum):
    """What the front end sends to the ranks."""

    SLOTS = "slots"
    """A record: the features lie in the arena."""
    MEDIA = "media"
    """The encoded media, inline."""
    FEATURES = "features"
    """The finished features, inline."""


@dataclass(frozen=True)
class Order:
    """What a delivery is asked for: the features of these items of one request (what is cached is not among them).

    `request_id` is the same on all ranks. In another engine (`mmplane.engines`) items are what that engine has.
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
    """What became of an order on this rank: the features (`Features`) of its items in order, or the failure.

    In another engine it is what that engine builds of each item. `hashes` are those of the features
    (`mmplane.delivery.feature_hash`), unless hashing is off.
    """

    features: tuple[Any, ...]
    failure: Failure | None = None
    work: Work = NOTHING
    hashes: tuple[int, ...] = ()


class Delivery(ABC):
    """One rank's half of a delivery. Called from the rank's loop alone."""

    name: ClassVar[str]
    sends: ClassVar[Sends]
    once: ClassVar[bool] = False
    """Invariant 1: one materialisation serves all ranks."""
    in_place: ClassVar[bool] = False
    """Invariant 2: the transform's last write is the only write of the features."""
    background: ClassVar[bool] = False
    """Whether the step goes on meanwhile."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    @abstractmethod
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        """Start on all orders of one plan; one future each, which never holds an exception. Synchronous: all done."""

    def cancel(self, request_id: int) -> None:  # noqa: B027 - most have nothing to cancel
        """Nobody waits for this order: spare what work can be spared. Its future still gets a value. Idempotent."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """No more orders will come: finish or fail what is pending, on every rank, and wait for it. Idempotent."""


def done(delivered: Delivered) -> Future[Delivered]:
    """A future that has its value."""
    future: Future[Delivered] = Future()
    future.set_result(delivered)
    return future
