"""Embeddings instead of an image's features: the output of the vision tower, computed by a client."""

from __future__ import annotations

from dataclasses import dataclass

from mmplane.core.errors import bad_media
from mmplane.core.records import Layout
from mmplane.features.contract.arrays import pack

EMBEDDINGS = "image_embeds"
"""The array that holds them, first in a layout: (tokens, width), float32, float16 or bfloat16."""
GRID = "image_grid_thw"
"""The grid, for a model with positions in two dimensions: (1, 3) int64, patches in time, height and width."""


@dataclass(frozen=True)
class EmbeddingForm:
    """The form that a model takes. `width` is that of its hidden states, plus that of each layer that adds to them
    (deepstack).

    `merge` x `merge` patches become one token; 0 for a model without a grid.
    """

    token_id: int
    width: int
    merge: int

    @property
    def names(self) -> frozenset[str]:
        """The names of the required arrays."""
        return frozenset({EMBEDDINGS, GRID} if self.merge else {EMBEDDINGS})

    def check_grid(self, grid: tuple[int, ...], tokens: int) -> None:
        """Raise RequestError (400) if the grid does not match this many tokens."""
        time, height, width = grid
        whole = time == 1 and min(height, width) > 0 and height % self.merge == width % self.merge == 0
        if not whole or height * width != tokens * self.merge**2:
            raise bad_media(
                f"{GRID} must be 1, height and width in patches, multiples of {self.merge}, "
                f"with {self.merge**2} patches for each of the {tokens} tokens",
                EMBEDDINGS,
            )

    def layout(self, tokens: int, dtype: str) -> Layout:
        """The layout of embeddings, and of their grid if there is one."""
        arrays: list[tuple[str, str, tuple[int, ...]]] = [(EMBEDDINGS, dtype, (tokens, self.width))]
        if self.merge:
            arrays.append((GRID, "int64", (1, 3)))
        return pack(arrays, ((self.token_id, tokens),))
