"""What a rank provides to its deliveries: its place in the group, and everything outside of it."""

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
        """The leader's payloads, on every rank. The other ranks pass the same number of anything.

        A payload that cannot be sent is a `Failure` on every rank; if only one rank cannot read one, only that rank has
        a `Failure`. Only a broken group raises: such a rank ends, and the supervisor replaces the group. `faults` (one
        for each payload) happen in the middle of the collective.
        """


@dataclass(frozen=True, kw_only=True)
class Ports(ABC):
    """The resources of one rank. How it makes an order's features depends on the engine."""

    rank: int
    size: int
    in_step: Broadcast
    """For the rank's loop."""
    in_lane: Broadcast
    """For the lane's thread: a separate process group, so that neither can receive the other's messages."""
    lane: Lane
    pool: Executor
    """Materialises in the background, in any order. Nothing that runs here enters a collective."""
    leader_pool: Executor
    """The same, for what the leader materialises for all ranks."""
    item_seconds: float
    """The time limit for one item."""
    meter: Meter = field(default_factory=Meter)
    """Counts what a delivery reports."""

    @property
    def leads(self) -> bool:
        """Whether this is the leader."""
        return self.rank == 0

    @abstractmethod
    def raw(self, order: Order) -> object:
        """This rank's input for an order before it is made, in a form that can be pickled. Raises RequestError."""

    @abstractmethod
    def make(self, order: Order, raw: object = None) -> Delivered:
        """Make an order now, from another rank's `raw` or from this rank's own input. Raises RequestError."""
