"""Where the arrays of an item are in its slot."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mmplane.arena.allocator import ALIGN_BYTES
from mmplane.arena.spans import itemsize
from mmplane.core.records import Tensor


def pack(arrays: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[tuple[Tensor, ...], int]:
    """Place arrays one after another, each on a new cache line. Also returns the total bytes, at least one."""
    tensors, end_bytes = [], 0
    for name, dtype, shape in arrays:
        tensors.append(Tensor(name, dtype, shape, end_bytes))
        end_bytes += -(-prod(shape) * itemsize(dtype) // ALIGN_BYTES) * ALIGN_BYTES
    return tuple(tensors), max(end_bytes, 1)
