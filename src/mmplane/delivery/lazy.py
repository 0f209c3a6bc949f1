"""A lazy item: encoded media that becomes features on first access (analysis B1).

The incident's server sends such an object around: it holds the media and decodes on first access. It makes the cost of
the baselines appear in the same place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from mmplane.core.records import Recipe
from mmplane.delivery.tensors import tensors_of
from mmplane.media.materialise import Made


@dataclass
class LazyItem:
    """Media and its recipe. `features` decodes once and keeps the result."""

    media: memoryview | bytes
    recipe: Recipe
    materialise: Callable[[memoryview | bytes, Recipe, memoryview], Made] = field(repr=False)
    materialise_ms: float = 0.0
    decode_ms: float = 0.0
    _features: dict[str, torch.Tensor] | None = None

    @property
    def materialised(self) -> bool:
        """Whether it has been decoded."""
        return self._features is not None

    @property
    def features(self) -> dict[str, torch.Tensor]:
        """The item's tensors. Raises RequestError if the media cannot be decoded."""
        if self._features is None:
            self.ensure_materialised()
        assert self._features is not None
        return self._features

    def ensure_materialised(self) -> None:
        """Decode and transform now, unless that has been done. Raises RequestError."""
        if self._features is not None:
            return
        started_s = time.perf_counter()
        out = bytearray(self.recipe.layout.length_bytes)
        made = self.materialise(self.media, self.recipe, memoryview(out))
        self._features = tensors_of(self.recipe.layout.tensors, memoryview(out))
        self.decode_ms = made.decode_ms
        self.materialise_ms = (time.perf_counter() - started_s) * 1000
