"""The resources of a rank of this server: items come in parcels or in the arena, and its processor makes features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from mmplane.core.records import Item, Recipe
from mmplane.delivery import make as making
from mmplane.delivery.delivery import Delivered, Order
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.ports import Ports
from mmplane.media.materialise import Made


@dataclass(frozen=True, kw_only=True)
class RankPorts(Ports):
    """The ports of this server's ranks, in addition to those of every engine."""

    materialise: Callable[[memoryview | bytes, Recipe, memoryview], Made]
    """Turns encoded media into features in a writable buffer of the layout's length. Raises RequestError."""
    view: Callable[[Item], dict[str, torch.Tensor]]
    """An item's tensors over the arena."""
    parcels: Parcels

    def raw(self, order: Order) -> object:
        """The encoded media of each item."""
        return [bytes(content) for content in making.contents(self, order)]

    def make(self, order: Order, raw: object = None) -> Delivered:
        """The features of each item."""
        media = making.contents(self, order) if raw is None else cast("making.Media", raw)
        return making.make(self, order, media)
