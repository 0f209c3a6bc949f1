"""The bytes of a slot that are arrays. Padding between them is never written and holds bytes of earlier items."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from mmplane.core.records import Tensor

_ITEMSIZES = {
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": 1,
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
}


def spans(tensors: Iterable[Tensor], length_bytes: int) -> list[tuple[int, int]]:
    """Return where each array begins and ends in its slot of `length_bytes`, in order.

    Raises ValueError if an array is not inside the slot, or has an unknown dtype.
    """
    found = []
    for tensor in tensors:
        array_bytes = prod(tensor.shape) * itemsize(tensor.dtype)
        end_bytes = tensor.offset_bytes + array_bytes
        if min(tensor.shape, default=0) < 0 or end_bytes > length_bytes:
            raise ValueError(f"an array of {array_bytes} bytes is not inside its slot")
        found.append((tensor.offset_bytes, end_bytes))
    return found


def pieces(tensors: Iterable[Tensor], slot: memoryview) -> list[memoryview]:
    """Return the bytes of each array in its slot, in order. Raises ValueError like `spans`."""
    return [slot[begin:end] for begin, end in spans(tensors, len(slot))]


def itemsize(dtype: str) -> int:
    """The size of one element, from the name alone: `float32`, `bfloat16`, `uint8`, `bool`. Raises ValueError."""
    try:
        return _ITEMSIZES[dtype]
    except KeyError:
        raise ValueError(f"unknown dtype: {dtype}") from None
