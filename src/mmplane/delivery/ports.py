"""What a rank gives its deliveries to work with: its place in the group, and everything that reaches beyond it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmplane.core.faults import Fault
from mmplane.delivery.lane import Lane
from mmplane.delivery.meter import Meter

if TYPE_CHECKING:
    from mmplane.delivery.delivery import Delivered, Order


class Broadcast(ABC):
    """A collective that carries objects from the leader to every rank, in the order in which all ranks call it."""

    @abstractmethod
    def __call__(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        """The leader's payloads, on every rank; the others give as many of anything.

        A payload that cannot be sent is a `Failure` on every rank; a rank that alone cannot read one has a `Failure`
        alone. Only a broken group raises: such a rank ends, and the supervisor replaces the group. `faults` (one for
        each payload) strike in mid-collective.
        """


@dataclass(frozen=True, kw_only=True)
class Ports(ABC):
    """One rank's means. How it makes an order's features is its engine's business."""

    rank: int
    size: int
    in_step: Broadcast
    """For the rank's loop."""
    in_lane: Broadcast
    """For the lane's thread: another process group, so that neither can meet the other's messages."""
    lane: Lane
    pool: Executor
    """To materialise in the background, in any order: nothing that runs here enters a collective."""
    leader_pool: Executor
    """The same, for what the leader materialises for all."""
    item_seconds: float
    """How long one item may take."""
    meter: Meter = field(default_factory=Meter)
    """Counts what a delivery has to say of itself."""

    @property
    def leads(self) -> bool:
        """Whether this is the leader."""
        return self.rank == 0

    @abstractmethod
    def raw(self, order: Order) -> object:
        """What this rank has of an order before it is made, as it can be pickled. Raises RequestError."""

    @abstractmethod
    def make(self, order: Order, raw: object = None) -> Delivered:
        """An order made here and now: of another rank's `raw`, or of what this rank has. Raises RequestError."""
