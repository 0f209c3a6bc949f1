"""An item of vLLM whose large tensors are in the arena, and the record that travels in their place.

In the API server an item is complete, so vLLM's code reads it as usual. If there is no lease, it is sent as vLLM sends
it. A message with a lease carries an element named `address` with the record instead of the tensors. vLLM treats an
item with such an element as a handle: it neither strips it nor sends it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from vllm.multimodal.inputs import MultiModalBatchedField, MultiModalFieldElem, MultiModalKwargsItem

from mmplane.embed.hold import SidecarHold
from mmplane.embed.records import Leased

ADDRESS = "address"
"""The name of the element that holds the record: a uint8 tensor of less than 256 bytes, which vLLM sends inline."""
PLACED_BYTES_MIN = 64 * 1024
"""Smaller tensors are sent as they are. vLLM's engine core and runners read grids of images from the message."""


class HeldItem(MultiModalKwargsItem):  # type: ignore[misc]
    """An item whose elements are, by name, the arrays of `hold`, as far as it has them."""

    def __init__(self, elements: Mapping[str, MultiModalFieldElem], hold: SidecarHold) -> None:
        arrays = hold.arrays(torch)
        super().__init__(
            {
                name: replace(one, data=arrays[name]) if name in arrays and _is_placed(one.data) else one
                for name, one in elements.items()
            }
        )
        self.hold = hold

    def drop(self) -> None:
        """Let go of the features. The item can neither be read nor sent again."""
        self.clear()
        self.__dict__.pop("hold", None)


def lent(item: MultiModalKwargsItem, leased: Leased) -> MultiModalKwargsItem:
    """The item as it is sent: the record, and what is not in the arena."""
    there = {tensor.name for tensor in leased.item.tensors}
    rest = {
        name: replace(one, data=None) if name in there and is_large(one.data) else one for name, one in item.items()
    }
    record = torch.frombuffer(bytearray(leased.encode()), dtype=torch.uint8)
    return MultiModalKwargsItem({**rest, ADDRESS: MultiModalFieldElem(record, MultiModalBatchedField())})


def leased_of(features: Iterable[Any] | None) -> Iterator[Leased]:
    """The records of a message's features. Raises ValueError for an invalid record."""
    for feature in features or ():
        if feature.data is not None and ADDRESS in feature.data:
            yield leased_in(feature.data)


def leased_in(item: MultiModalKwargsItem) -> Leased:
    """The record of an item that has one."""
    return Leased.decode(bytes(item[ADDRESS].data.numpy()))


def restored(item: MultiModalKwargsItem, arrays: Mapping[str, torch.Tensor]) -> MultiModalKwargsItem:
    """The original item. Raises KeyError if an array is missing."""
    return MultiModalKwargsItem(
        {
            name: replace(one, data=arrays[name]) if one.data is None else one
            for name, one in item.items()
            if name != ADDRESS
        }
    )


def _is_placed(data: object) -> bool:
    return data is None or is_large(data)


def is_large(data: object) -> bool:
    """Whether it is a tensor on the CPU that is large enough for the arena."""
    return isinstance(data, torch.Tensor) and data.is_cpu and data.nbytes >= PLACED_BYTES_MIN
