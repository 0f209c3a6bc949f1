"""transformers loads the experts of Qwen3-VL-MoE wrongly when it splits them over ranks. Here they are read rightly.

Published files hold them transposed, newer ones do not. transformers reads a rank's share as if the file held them as
the model does. Then it decides whether to transpose by comparing the share with the shape of the whole.
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
"""Types of models whose experts transformers transposes."""
EXPERTS_DIMENSIONS = 3
"""Experts, and two of each."""


@contextmanager
def experts_read_rightly(model_type: str) -> Iterator[None]:
    """While the block runs, transformers reads the right share of experts of this type of model."""
    plain = core_model_loading.DtensorShardOperation
    if model_type in TRANSPOSED:
        core_model_loading.DtensorShardOperation = Share
    try:
        yield
    finally:
        core_model_loading.DtensorShardOperation = plain


class Share(DtensorShardOperation):  # type: ignore[misc]
    """A rank's share of a parameter, read from a file that holds it as the model does, or transposed."""

    def __init__(self, param: DTensor) -> None:
        super().__init__(param)
        self._shape = tuple(param.shape)

    def shard_tensor(self, source: Any, *args: Any, **kwargs: Any) -> Any:
        """The share of a tensor or of a slice of a file.

        That of experts is transposed. transformers transposes it again: a share never has the shape of the whole.
        """
        if self.param_ndim != EXPERTS_DIMENSIONS:
            return super().shard_tensor(source, *args, **kwargs)
        whole = source if _shape(source) == self._shape else Transposed(source)
        return super().shard_tensor(whole, *args, **kwargs).transpose(1, 2)


class Transposed:
    """A tensor or a slice of a file whose last two dimensions change places; nothing is read until it is indexed."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def get_shape(self) -> list[int]:
        """As safetensors has it."""
        experts, rows, columns = _shape(self._source)
        return [experts, columns, rows]

    def __getitem__(self, parts: tuple[slice, slice, slice]) -> torch.Tensor:
        experts, rows, columns = parts
        share: torch.Tensor = self._source[experts, columns, rows].transpose(1, 2)
        return share


def _shape(source: Any) -> tuple[int, ...]:
    return tuple(source.shape if isinstance(source, torch.Tensor) else source.get_shape())
