"""Tensors over a buffer, as a record describes them, without a copy."""

from __future__ import annotations

import torch

from mmplane.arena.arrays import array
from mmplane.core.records import Tensor


def tensors_of(tensors: tuple[Tensor, ...], content: memoryview) -> dict[str, torch.Tensor]:
    """The tensors by name, over `content`. Raises ValueError if one is not inside it.

    Over read-only memory torch warns that it is not writable, which is intended: rank processes silence the warning.
    """
    return {tensor.name: array(torch, tensor, content, 0, len(content)) for tensor in tensors}
