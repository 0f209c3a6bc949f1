"""The tiling families: an image becomes several tiles and a small view of the whole.

InternVL's (`GotOcr2ImageProcessorPil`) stretches the image over a grid of tiles, then adds a thumbnail. LLaVA-NeXT's
fits it into one of some given resolutions, pads it, and puts the small view first. Both are bit-equal to transformers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from mmplane.core.errors import bad_media
from mmplane.features.checkpoint import ImageCheckpoint
from mmplane.features.resize import FILTERS, Box, Resize
from mmplane.features.table import Companions
from mmplane.features.tiles import Tile, TileImageProcessor


class InternVLImageProcessor(TileImageProcessor):
    """The fast path of InternVL. Features are (tiles, 3, height, width), the thumbnail last."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"])
            and bool(options["size"].height and options["size"].width)
            and bool(options["do_rescale"] or options["do_normalize"])
            and options["resample"] in FILTERS
        )

    @staticmethod
    def _tile_size(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        return checkpoint.options["size"].height, checkpoint.options["size"].width

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        options = self._checkpoint.options
        kind, columns, rows = int(options["resample"]), 1, 1
        if options["crop_to_patches"] and options["max_patches"] > 1:
            tile = (self._height, self._width)
            columns, rows = get_optimal_tiled_canvas(
                (height, width), tile, options["min_patches"], options["max_patches"]
            )
        tiles = [
            Tile(Resize(columns * self._width, rows * self._height, kind, Box(x, y, x + self._width, y + self._height)))
            for y, x in product(
                range(0, rows * self._height, self._height), range(0, columns * self._width, self._width)
            )
        ]
        if len(tiles) > 1:
            tiles.append(Tile(Resize.whole(self._width, self._height, kind)))
        return tuple(tiles)


class LlavaNextImageProcessor(TileImageProcessor):
    """The fast path of LLaVA-NeXT. Features are (1, tiles, 3, side, side), the small view first."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces: tiles, crop and small view of one size."""
        options = checkpoint.options
        side = options["size"].shortest_edge or options["size"].height
        crop = options["crop_size"]
        return (
            checkpoint.input_names == {"pixel_values", "image_sizes"}
            and bool(options["do_rescale"] or options["do_normalize"])
            and dict(options["size"]) in ({"shortest_edge": side}, {"height": side, "width": side})
            and (not options["do_center_crop"] or (crop.height, crop.width) == (side, side))
            and all(edge % side == 0 for pair in options["image_grid_pinpoints"] for edge in pair)
            and options["resample"] in FILTERS
        )

    @staticmethod
    def _tile_size(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        side = checkpoint.options["size"].shortest_edge or checkpoint.options["size"].height
        return side, side

    def _leading(self, tiles: int) -> tuple[int, ...]:
        return (1, tiles)

    def _companions(self, width: int, height: int) -> Companions:
        return {"image_sizes": ((height, width),)}

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        options = self._checkpoint.options
        kind, side = int(options["resample"]), self._height
        canvas = select_best_resolution((height, width), options["image_grid_pinpoints"])
        if canvas is None:
            raise bad_media("the model cannot take an image of this size")
        shape = np.broadcast_to(np.uint8(0), (3, height, width))
        resized_height, resized_width = get_patch_output_size(shape, canvas, ChannelDimension.FIRST)
        above, before = (canvas[0] - resized_height) // 2, (canvas[1] - resized_width) // 2
        tiles = [Tile(Resize.whole(side, side, kind))]
        for y, x in product(range(-above, canvas[0] - above, side), range(-before, canvas[1] - before, side)):
            left, top = min(max(x, 0), resized_width), min(max(y, 0), resized_height)
            right, bottom = max(min(x + side, resized_width), left), max(min(y + side, resized_height), top)
            resize = Resize(resized_width, resized_height, kind, Box(left, top, right, bottom))
            tiles.append(Tile(resize, top - y, left - x))
        return tuple(tiles)
