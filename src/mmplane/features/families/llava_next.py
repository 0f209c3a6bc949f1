"""LLaVA-NeXT and LLaVA-OneVision: the image is fitted into one of several given resolutions, padded and split.

A small view comes first. If a prompt has several images, LLaVA-OneVision only uses that view, padded to a square.
Bit-equal to transformers.
"""

from __future__ import annotations

from math import isqrt, sqrt

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.sizes import best_canvas, on_canvas
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, llava_token, llava_view_tokens
from mmplane.features.checkpoint.size import Size
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import Grid, Tile, TileImageProcessor


def _seen(prompt: Prompt, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of patches without padding, where a tile has so many."""
    height, width = (int(side) for side in prompt.companions["image_sizes"][0])
    tile_height, tile_width = prompt.shape[-2:]
    canvas = best_canvas(height, width, prompt.options["image_grid_pinpoints"])
    assert canvas is not None
    rows, columns = rows * (canvas[0] // tile_height), columns * (canvas[1] // tile_width)
    if width / height > columns / rows:
        return rows - (rows - int(round(height * (columns / width), 7))) // 2 * 2, columns
    return rows, columns - (columns - int(round(width * (rows / height), 7))) // 2 * 2


def _next_pieces(prompt: Prompt) -> Pieces:
    """The base view, and the tiles without their padding: one row more than patches, for the ends of lines."""
    (tile_height, tile_width), side = prompt.shape[-2:], prompt.settings["patch_size"]
    rows, columns = _seen(prompt, tile_height // side, tile_width // side)
    return [(llava_token(prompt.vocabulary, prompt.settings), rows * columns + rows + llava_view_tokens(prompt))]


def _onevision_pieces(prompt: Prompt) -> Pieces:
    """The same, with tiles pooled to about as many patches as `vision_aspect_ratio` allows."""
    settings = prompt.settings
    view, tiles_max = (
        settings["num_image_tokens"],
        int(settings.get("vision_aspect_ratio", "anyres_max_9").removeprefix("anyres_max_")),
    )
    left_out = settings.get("vision_feature_select_strategy") == "default"
    if prompt.options.get("several"):
        return [(llava_token(prompt.vocabulary, settings), view + 1 - left_out)]
    side = isqrt(view)
    rows, columns = _seen(prompt, side, side)
    ratio = sqrt(rows * columns / (tiles_max * side**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return [(llava_token(prompt.vocabulary, settings), rows * columns + rows + view - left_out)]


_INPUTS = frozenset({"pixel_values", "image_sizes"})

KNOWN = Known(
    images={
        "LlavaNextImageProcessor": {
            **IMAGES,
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_pad": True,
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        },
        "LlavaOnevisionImageProcessor": {
            **IMAGES,
            "size": {"height": 384, "width": 384},
            "do_pad": True,
            "image_grid_pinpoints": [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)],
            "several": False,
        },
    },
    prompts={
        "LlavaNextProcessor": PromptRule(llava_token, _next_pieces, _INPUTS, lambda _: {"do_pad": True}),
        "LlavaOnevisionProcessor": PromptRule(llava_token, _onevision_pieces, _INPUTS | {"batch_num_images"}),
    },
    models={
        "llava_next": Kinds("LlavaNextProcessor", "LlavaNextImageProcessor", tokens={"image": 32000}),
        "llava_onevision": Kinds(
            "LlavaOnevisionProcessor",
            "LlavaOnevisionImageProcessor",
            "LlavaOnevisionVideoProcessor",
            {"image": 151646, "video": 151647},
        ),
    },
)


class LlavaNextImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, tiles, 3, side, side), the small view first."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        self._tile = (_side(checkpoint), _side(checkpoint))
        self._several = bool(checkpoint.options.get("several"))

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration: tiles, crop and small view of one size."""
        options = checkpoint.options
        side, crop = _side(checkpoint), options["crop_size"]
        return (
            checkpoint.input_names - {"batch_num_images"} == _INPUTS
            and bool(options["do_rescale"] or options["do_normalize"])
            and options["size"] in (Size(shortest_edge=side), Size(side, side))
            and (crop is None or (crop.height, crop.width) == (side, side))
            and bool(crop or not options["do_center_crop"])
            and all(edge % side == 0 for pair in options["image_grid_pinpoints"] for edge in pair)
            and checkpoint.backend.serves(options)
        )

    def _leading(self, tiles: int) -> tuple[int, ...]:
        return (1, tiles)

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - by the size alone
        return {"image_sizes": np.array([[height, width]]), "batch_num_images": np.array([1 + self._several])}

    def _tiles(self, width: int, height: int) -> list[Tile]:
        side, _ = self._tile
        if self._several:
            self._check_square(width, height)
            return [Tile(self._resize(side, side))]
        size = best_canvas(height, width, self._checkpoint.options["image_grid_pinpoints"])
        if size is None:
            raise bad_media("the model cannot take an image of this size")
        resized = on_canvas(height, width, size)
        start = ((size[0] - resized[0]) // 2, (size[1] - resized[1]) // 2)
        return [Tile(self._resize(side, side)), *Grid(size, self._tile, start).tiles(resized, self._resize)]

    def _sources(self, pixels: Pixels) -> tuple[Pixels]:
        return (self._square(pixels) if self._several else pixels,)


def _side(checkpoint: ImageCheckpoint) -> int:
    return int(checkpoint.options["size"].shortest_edge or checkpoint.options["size"].height)
