"""The inbox: a rank's read-only view of the arena. It turns a record into arrays without an open, a copy or a hash."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from blake3 import blake3

from mmplane.arena.segment import RegionMapping
from mmplane.core.records import Item, Slot
from mmplane.delivery.tensors import tensors_of


class Inbox:
    """Maps every region once, populated and read-only.

    A view is valid until the rank has reported that it no longer reads the item; then the arena's owner gives the bytes
    to another item. A rank that keeps a view longer reads another request's features.
    """

    def __init__(self, regions: Sequence[RegionMapping], *, copy: bool = False) -> None:
        self._regions = regions
        self._copy = copy

    def content(self, slot: Slot) -> memoryview:
        """A slot's bytes, in place. Raises ValueError if they are not inside their region."""
        if slot.region >= len(self._regions):
            raise ValueError(f"there is no region {slot.region}")
        return self._regions[slot.region].view(slot.offset_bytes, slot.length_bytes)

    def regions(self) -> list[memoryview]:
        """All of them, whole."""
        return [region.view(0, region.length_bytes) for region in self._regions]

    def tensors(self, item: Item) -> dict[str, torch.Tensor]:
        """The item's tensors over the mapping, by name. Writing to one is a SIGSEGV.

        With `copy` (for a model that writes into its inputs) they are private copies. Raises ValueError if a tensor is
        not inside its slot.
        """
        tensors = tensors_of(item.tensors, self.content(item.slot))
        return {name: tensor.clone() for name, tensor in tensors.items()} if self._copy else tensors


def digest(features: torch.Tensor) -> bytes:
    """The blake3 digest of a tensor's bytes in C order; in place if they are contiguous on a CPU."""
    content = features.cpu().contiguous().flatten().view(torch.uint8)
    return blake3(content.numpy().data).digest()
