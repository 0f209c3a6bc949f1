"""What a rank of SGLang provides to `mmplane.delivery`, and how ranks agree.

An order has one item, SGLang's `MultimodalProcessorOutput`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from mmplane.delivery.delivery import Delivered, Order
from mmplane.delivery.faults import strike
from mmplane.delivery.ports import Ports


@dataclass(frozen=True, kw_only=True)
class EnginePorts(Ports):
    """Ports of SGLang, beside those that every engine has."""

    build: Callable[[Any], Any]
    """Builds `MultimodalInputs` from `MultimodalProcessorOutput`. An exception fails only its request."""

    def raw(self, order: Order) -> object:
        """The tokenizer's output."""
        return order.items[0]

    def make(self, order: Order, raw: object = None) -> Delivered:
        """The scheduler's input."""
        strike(order.fault, "materialise", self.rank)
        return Delivered((self.build(order.items[0] if raw is None else raw),))


def least(group: Any, numbers: list[int]) -> list[int]:
    """Minimum over all ranks at each place: one `all_reduce`. Without a group there is one rank."""
    if group is None:
        return numbers
    tensor = torch.tensor(numbers, dtype=torch.int32)
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=group)
    found: list[int] = tensor.tolist()
    return found
