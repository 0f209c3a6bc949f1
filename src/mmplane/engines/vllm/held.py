"""An item of vLLM whose large tensors are in the arena, and the record that travels in their place.

In the API server an item is complete, so vLLM's code reads it as usual. If there is no lease, it is sent as vLLM sends
it. With a lease, it is sent as one element named `address`: the record, and the rest of the item as vLLM encodes it.
vLLM treats an item with such an element as a handle: it neither strips it nor sends it twice.

The engine core reads only the record. It passes both on as bytes, because every object and tensor in its message to the
workers costs time in its loop and in theirs. A worker decodes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from vllm.multimodal.inputs import MultiModalBatchedField, MultiModalFieldElem, MultiModalKwargsItem
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from mmplane.embed.hold import SidecarHold
from mmplane.embed.records import Leased

ADDRESS = "address"
"""The name of the element that holds the record and the rest: uint8 tensors. vLLM sends less than 256 bytes inline."""
PLACED_BYTES_MIN = 64 * 1024
"""Smaller tensors, such as grids of images, belong to the rest."""
RESTS_MAX = 256
"""How many rests a worker keeps decoded. Pictures of one size have the same rest."""

Rest = tuple[bytes, ...]
"""vLLM's frames of an item whose tensors in the arena are None. There is a second if a tensor has 256 bytes."""


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
    """The item as it is sent to the engine core: the record, and what is not in the arena."""
    there = {tensor.name for tensor in leased.item.tensors}
    rest = {
        name: replace(one, data=None) if name in there and is_large(one.data) else one for name, one in item.items()
    }
    frames = (leased.encode(), *MsgpackEncoder().encode(MultiModalKwargsItem(rest)))
    sent = [torch.frombuffer(bytearray(frame), dtype=torch.uint8) for frame in frames]
    return MultiModalKwargsItem({ADDRESS: MultiModalFieldElem(sent, MultiModalBatchedField())})


def is_lent(feature: Any) -> bool:
    """Whether it has a record instead of its features."""
    return feature.data is not None and ADDRESS in feature.data


def received(features: Iterable[Any] | None) -> list[Leased]:
    """In the engine core: the records of a message's features, which from now on are bytes.

    Raises ValueError for an invalid record.
    """
    records = []
    for feature in filter(is_lent, features or ()):
        record, *rest = (frame.numpy().tobytes() for frame in feature.data[ADDRESS].data)
        feature.data = {ADDRESS: (record, tuple(rest))}
        records.append(leased_of(feature))
    return records


def leased_of(feature: Any) -> Leased:
    """The record of a feature that an engine core has received. Raises ValueError if it is invalid."""
    record, _ = feature.data[ADDRESS]
    return Leased.decode(record)


def restored(feature: Any, arrays: Mapping[str, torch.Tensor]) -> Any:
    """In a worker: the original feature, with these arrays. Raises KeyError if one is missing."""
    _, rest = feature.data[ADDRESS]
    elements = _known_elements(rest) if len(rest) == 1 else _elements(rest)
    return replace(
        feature,
        data=MultiModalKwargsItem(
            {
                name: MultiModalFieldElem(arrays[name], one.field) if one.data is None else one
                for name, one in elements.items()
            }
        ),
    )


def _elements(rest: Rest) -> MultiModalKwargsItem:
    return MsgpackDecoder(MultiModalKwargsItem, share_mem=False).decode(rest)


_known_elements = lru_cache(RESTS_MAX)(_elements)
"""For small rests. Requests share the tensors, as in vLLM's own cache of a worker."""


def _is_placed(data: object) -> bool:
    return data is None or is_large(data)


def is_large(data: object) -> bool:
    """Whether it is a tensor on the CPU that is large enough for the arena."""
    return isinstance(data, torch.Tensor) and data.is_cpu and data.nbytes >= PLACED_BYTES_MIN
