"""Fixes how the experts of Qwen3-VL-MoE are read: transformers loads them wrongly when it splits them over ranks.

Published files store them transposed, newer files do not. transformers reads a rank's share as if the file stored them
like the model. Then it decides whether to transpose by comparing the share with the shape of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import core_model_loading
from transformers.distributed.sharding_utils import DtensorShardOperation

TRANSPOSED = frozenset({"qwen3_vl_moe"})
"""Model types whose experts transformers transposes."""
EXPERTS_DIMENSIONS = 3
"""The number of experts, and two dimensions of each."""


@contextmanager
def experts_read_rightly(model_type: str) -> Iterator[None]:
    """Inside the block, transformers reads the right share of the experts of this model type."""
    plain = core_model_loading.DtensorShardOperation
    if model_type in TRANSPOSED:
        core_model_loading.DtensorShardOperation = Share
    try:
        yield
    finally:
        core_model_loading.DtensorShardOperation = plain


class Share(DtensorShardOperation):  # type: ignore[misc]
    """A rank's share of a parameter, read from a file that stores it like the model, or transposed."""

    def __init__(self, param: DTensor) -> None:
        super().__init__(param)
        self._shape = tuple(param.shape)

    def shard_tensor(self, source: Any, *args: Any, **kwargs: Any) -> Any:
        """The share of a tensor or of a slice of a file.

        The share of experts is transposed. transformers transposes it again, because a share never has the shape of the
        whole.
        """
        if self.param_ndim != EXPERTS_DIMENSIONS:
            return super().shard_tensor(source, *args, **kwargs)
        whole = source if _shape(source) == self._shape else Transposed(source)
        return super().shard_tensor(whole, *args, **kwargs).transpose(1, 2)


class Transposed:
    """A tensor or a slice of a file with its last two dimensions exchanged. Nothing is read until it is indexed."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def get_shape(self) -> list[int]:
        """The shape, in the form of safetensors."""
        experts, rows, columns = _shape(self._source)
        return [experts, columns, rows]

    def __getitem__(self, parts: tuple[slice, slice, slice]) -> torch.Tensor:
        experts, rows, columns = parts
        share: torch.Tensor = self._source[experts, columns, rows].transpose(1, 2)
        return share


def _shape(source: Any) -> tuple[int, ...]:
    return tuple(source.shape if isinstance(source, torch.Tensor) else source.get_shape())
