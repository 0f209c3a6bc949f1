"""Tensors over a buffer that a record describes, without a copy."""

from __future__ import annotations

from math import prod

import torch

from mmplane.core.records import Tensor


def tensors_of(tensors: tuple[Tensor, ...], content: memoryview) -> dict[str, torch.Tensor]:
    """The tensors by name, over `content`. Raises ValueError when one does not lie inside.

    Over read-only memory torch warns that it is not writable, which is the point: rank processes silence that.
    """
    return {tensor.name: _tensor(tensor, content) for tensor in tensors}


def _dtype(tensor: Tensor) -> torch.dtype:
    dtype = getattr(torch, tensor.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no such dtype: {tensor.dtype}")
    return dtype


def _tensor(tensor: Tensor, content: memoryview) -> torch.Tensor:
    dtype = _dtype(tensor)
    if min(tensor.shape, default=1) < 0:
        raise ValueError("a tensor with a negative side")
    count = prod(tensor.shape)
    end_bytes = tensor.offset_bytes + count * dtype.itemsize
    if end_bytes > len(content):
        raise ValueError("a tensor reaches beyond its slot")
    return torch.frombuffer(content[:end_bytes], dtype=dtype, count=count, offset=tensor.offset_bytes).reshape(
        tensor.shape
    )
