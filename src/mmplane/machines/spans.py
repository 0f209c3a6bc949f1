"""The bytes of a slot that are features. Padding between arrays is never written and holds bytes of earlier items."""

from __future__ import annotations

from math import prod

from mmplane.core.records import Layout
from mmplane.features.arithmetic.encodings import storage_dtype


def spans(layout: Layout, slot: memoryview) -> list[memoryview]:
    """Return each array's bytes in its slot, in order. Raises ValueError if an array is not inside the slot."""
    found = []
    for tensor in layout.tensors:
        length_bytes = prod(tensor.shape) * storage_dtype(tensor.dtype).itemsize
        end_bytes = tensor.offset_bytes + length_bytes
        if min(tensor.shape, default=0) < 0 or end_bytes > len(slot):
            raise ValueError(f"an array of {length_bytes} bytes is not inside its slot")
        found.append(slot[tensor.offset_bytes : end_bytes])
    return found
