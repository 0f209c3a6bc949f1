"""Pixtral and Mistral 3: an image of any shape, shrunk into a square and resized to whole patches. One tile.

Bit-equal to `PixtralImageProcessor` and `PixtralImageProcessorPil`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, Settings
from mmplane.features.checkpoint.vocabulary import Pieces, Vocabulary
from mmplane.features.families.tiles import Tile, TileImageProcessor


def _token(_: Vocabulary, settings: Settings) -> str:
    return str(settings.get("image_token", "[IMG]"))


def _side(settings: Settings) -> int:
    """Size of one token in pixels."""
    return int(settings.get("patch_size", 16) * settings.get("spatial_merge_size", 1))


def _pieces(prompt: Prompt) -> Pieces:
    """Row by row, with a token after each and another one after the last."""
    settings = prompt.settings
    rows, columns = (int(side) // _side(settings) for side in prompt.companions["image_sizes"][0])
    row = (_token(prompt.vocabulary, settings), columns)
    for _ in range(rows - 1):
        yield row
        yield settings.get("image_break_token", "[IMG_BREAK]"), 1
    yield row
    yield settings.get("image_end_token", "[IMG_END]"), 1


def _options(settings: Settings) -> Mapping[str, Any]:
    return {"patch_size": _side(settings)}


KNOWN = Known(
    images={
        "PixtralImageProcessor": {
            **IMAGES,
            "default_to_square": True,
            "size": {"longest_edge": 1024},
            "do_pad": True,
            "patch_size": {"height": 16, "width": 16},
        }
    },
    prompts={
        "PixtralProcessor": PromptRule(_token, _pieces, frozenset({"pixel_values", "image_sizes"}), _options),
    },
    models={"mistral3": Kinds("PixtralProcessor", "PixtralImageProcessor", tokens={"image": 10})},
)


class PixtralImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, 3, height, width)."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options, size = checkpoint.options, checkpoint.options["size"]
        return (
            checkpoint.input_names == {"pixel_values", "image_sizes"}
            and bool(options["do_resize"])
            and not options["do_center_crop"]
            and bool(size.longest_edge or (size.height and size.width))
            and isinstance(options["patch_size"], int)
            and bool(options["do_rescale"] or options["do_normalize"])
            and checkpoint.backend.serves(options)
        )

    def _tile_size(self, width: int, height: int) -> tuple[int, int]:
        options, size = self._checkpoint.options, self._checkpoint.options["size"]
        limits = (size.longest_edge or size.height, size.longest_edge or size.width)
        size = _fitted_patches(height, width, options["patch_size"], limits)
        if min(size) < 1:
            raise bad_media("the model cannot take an image of this size")
        return size

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - by the size alone
        return {"image_sizes": np.array([self._tile_size(width, height)])}

    def _tiles(self, width: int, height: int) -> list[Tile]:
        tile_height, tile_width = self._tile_size(width, height)
        return [Tile(self._resize(tile_width, tile_height))]


def _fitted_patches(height: int, width: int, side: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Pixtral's `get_resize_output_image_size`: into `limits`, then up to whole patches; never enlarged before that."""
    ratio = max(height / limits[0], width / limits[1])
    if ratio > 1:
        height, width = floor(height / ratio), floor(width / ratio)
    return ((height - 1) // side + 1) * side, ((width - 1) // side + 1) * side
