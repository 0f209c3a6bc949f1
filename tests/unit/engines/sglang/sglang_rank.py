"""One of SGLang's ranks without SGLang: its messages, its function that builds, and what it handles in a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from gloo_pair import Bench
from mmplane.core.faults import Fault
from mmplane.delivery.delivery import Order
from mmplane.engines.sglang.building import building as module
from mmplane.engines.sglang.building.building import Building
from mmplane.engines.sglang.building.choice import MARK
from mmplane.engines.sglang.building.pending import Pending
from mmplane.engines.sglang.building.ports import EnginePorts, least
from mmplane.engines.sglang.designs.names import DESIGNS

STEPS_MAX = 2000


@dataclass
class Item:
    """Stands for SGLang's `MultimodalDataItem`."""

    feature: Any
    model_specific_data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Inputs:
    """Stands for SGLang's `MultimodalProcessorOutput`."""

    mm_items: list[Item]


@dataclass
class Request:
    """Stands for a tokenised request."""

    rid: str
    mm_inputs: Any = None
    session_id: str | None = None
    fault: Fault | None = None


@dataclass
class Batch:
    """Stands for several in one message."""

    batch: list[Request]


@dataclass(frozen=True)
class Refusal:
    """Stands for SGLang's `MMInputsProcessError`."""

    message: str


def request(rid: str, design: str | None, **fields: Any) -> Request:
    """A request as it comes to a rank."""
    return Request(rid, Inputs([Item(rid, {} if design is None else {MARK: design})]), **fields)


class Rank:
    """A rank of two, in lockstep with the other by what both are told."""

    def __init__(self, bench: Bench, *, hold: Callable[[str], None] = lambda _: None) -> None:
        ports, self.built = bench.ports, list[str]()

        def build(inputs: Inputs) -> tuple[str, ...]:
            rid = inputs.mm_items[0].feature
            hold(rid)
            self.built.append(rid)
            if rid.startswith("bad"):
                raise ValueError("not an image")
            return ("built", rid)

        own = EnginePorts(
            rank=ports.rank, size=ports.size, in_step=ports.in_step, in_lane=ports.in_lane, lane=ports.lane,
            pool=ports.pool, leader_pool=ports.leader_pool, item_seconds=ports.item_seconds, meter=ports.meter,
            build=build,
        )  # fmt: skip
        deliveries = {name: design.delivery(own) for name, design in DESIGNS.items()}
        self.collectives = 0

        def agree(numbers: list[int]) -> list[int]:
            self.collectives += 1
            return least(dist.group.WORLD, numbers)

        module.order_of = lambda number, asked: Order(number, (asked.mm_inputs,), asked.fault)  # in a forked process
        self.building = Building(ports.rank, deliveries, Pending(agree), Refusal, ports.meter)
        self.handled: list[tuple[str, Any]] = []

    def step(self, *messages: Any) -> list[str]:
        """One step of the scheduler; the ids of what it handled."""
        ready = self.building.admit(list(messages))
        handled = [one for message in ready for one in getattr(message, "batch", (message,))]
        self.handled += [(one.rid, outcome(one)) for one in handled]
        return [one.rid for one in handled]

    def until_empty(self) -> None:
        """Steps without a message until nothing is held back: as many on all ranks."""
        for _ in range(STEPS_MAX):
            if self.building.is_empty:
                return
            self.building.wait()
            self.step()
        raise AssertionError("something is held back for ever")


def outcome(one: Request) -> str:
    """What SGLang would see: the inputs' id, a refusal, or what the message brought."""
    if isinstance(one.mm_inputs, Refusal):
        return "refused"
    return one.mm_inputs[1] if isinstance(one.mm_inputs, tuple) else "as it came"


def requests(design: str, *rids: str) -> Iterator[Request]:
    """One for each id."""
    return (request(rid, design) for rid in rids)
