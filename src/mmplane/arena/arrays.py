"""Arrays over a slot, for the array library that the caller uses: `numpy`, `torch`, or a compatible one."""

from __future__ import annotations

import importlib
from math import prod
from typing import Any

from mmplane.core.records import Tensor


def array(library: Any, tensor: Tensor, buffer: Any, start_bytes: int, length_bytes: int) -> Any:
    """`library`'s array over one tensor of the slot at `start_bytes` of `buffer`. Nothing is copied.

    The array keeps `buffer` itself alive, and no slice of it. Raises ValueError if the library does not have the dtype,
    or if the tensor reaches beyond the slot's `length_bytes`.
    """
    try:
        empty = library.empty(0, dtype=_dtype(library, tensor.dtype))
    except (AttributeError, TypeError):
        raise ValueError(f"unknown dtype: {tensor.dtype}") from None
    if min(tensor.shape, default=1) < 0:
        raise ValueError("a tensor has a negative dimension")
    count = prod(tensor.shape)
    if tensor.offset_bytes + count * empty.itemsize > length_bytes:
        raise ValueError("a tensor reaches beyond its slot")
    if count == 0:
        return empty.reshape(tensor.shape)
    offset_bytes = start_bytes + tensor.offset_bytes
    return library.frombuffer(buffer, dtype=empty.dtype, count=count, offset=offset_bytes).reshape(tensor.shape)


def _dtype(library: Any, name: str) -> Any:
    """The library's dtype. NumPy has no bfloat16; ml_dtypes provides one."""
    if name == "bfloat16" and not hasattr(library, name):
        return importlib.import_module("ml_dtypes").bfloat16
    return getattr(library, name)


def library_of(values: Any) -> Any:
    """The library of this array, which must have been imported already."""
    return importlib.import_module(type(values).__module__.partition(".")[0])


def dtype_name(values: Any) -> str:
    """The dtype's name as in records: `float32`, `bfloat16`, `int64`."""
    return str(values.dtype).removeprefix("torch.")


def content(values: Any) -> Any:
    """An array's bytes in C order, as a flat uint8 array of its library. In place if it is contiguous on a CPU."""
    library = library_of(values)
    if hasattr(library, "ascontiguousarray"):
        return library.ascontiguousarray(values).reshape(-1).view(library.uint8)
    return values.detach().cpu().contiguous().reshape(-1).view(library.uint8)


def digestible(values: Any) -> memoryview:
    """The same in a form that can be hashed: anything with the buffer protocol."""
    flat = content(values)
    return memoryview(flat.numpy() if hasattr(flat, "numpy") else flat)
