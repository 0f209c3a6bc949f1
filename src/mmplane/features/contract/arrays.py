"""The arrays of an item in its slot: their positions, and views over them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from mmplane.core.records import Layout, Tensor
from mmplane.features.arithmetic.encodings import storage_dtype

ALIGN_BYTES = 64
"""Every array in a slot starts on a cache line."""

Arrays = Mapping[str, npt.NDArray[np.generic]]


def pack(tensors: list[tuple[str, str, tuple[int, ...]]], expansion: tuple[tuple[int, int], ...]) -> Layout:
    """Place (name, dtype, shape) one after the other, each on an `ALIGN_BYTES` boundary."""
    placed: list[Tensor] = []
    end_bytes = 0
    for name, dtype, shape in tensors:
        offset_bytes = -(-end_bytes // ALIGN_BYTES) * ALIGN_BYTES
        placed.append(Tensor(name, dtype, shape, offset_bytes))
        end_bytes = offset_bytes + prod(shape) * storage_dtype(dtype).itemsize
    return Layout(tuple(placed), expansion, end_bytes)


def write_all(values: Mapping[str, npt.ArrayLike], out: Arrays) -> int:
    """Copy small companions into their arrays. Return how many bytes were written."""
    for name, value in values.items():
        out[name][...] = value
    return sum(out[name].nbytes for name in values)


def views(layout_tensors: tuple[Tensor, ...], slot: memoryview) -> dict[str, npt.NDArray[np.generic]]:
    """NumPy arrays over a slot's bytes, one per tensor; writable if the memory is. bfloat16 is returned as uint16."""
    return {
        t.name: np.ndarray(t.shape, storage_dtype(t.dtype), buffer=slot, offset=t.offset_bytes) for t in layout_tensors
    }
