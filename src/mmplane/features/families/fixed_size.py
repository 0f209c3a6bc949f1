"""The fixed-size family (CLIP, SigLIP, LLaVA, Gemma 3 and their like): padded, resized and cropped to one size.

Bit-equal to the plain pipeline of transformers' backends (resize, centre crop, rescale, normalise), and to LLaVA's,
which first pads to a square. Features are (1, 3, height, width).
"""

from __future__ import annotations

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.resize import Box
from mmplane.features.arithmetic.sizes import between_edges, inside, shortest_edge
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import Tile, TileImageProcessor

SQUARE_PIXELS_MAX = 64_000_000
"""No image is padded to a larger square."""


class FixedSizeImageProcessor(TileImageProcessor):
    """The fast path of the family: one tile."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        options = checkpoint.options
        self._options = options
        self._background = np.array([int(mean * 255) for mean in options["image_mean"]], np.uint8)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces: of fixed size, and in floating point."""
        options = checkpoint.options
        crop = bool(options.get("do_center_crop")) and options["crop_size"].height and options["crop_size"].width
        fixed = options["size"].height and options["size"].width
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"])
            and bool(crop or fixed)
            and bool(options["do_rescale"] or options["do_normalize"])
            and not options.get("do_pan_and_scan")
            and (not options.get("do_pad") or _pads_to_square(checkpoint))
            and len(options["image_mean"]) == 3
            and checkpoint.backend.serves(options)
        )

    @staticmethod
    def _tile_size(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        options = checkpoint.options
        size = options["crop_size"] if options.get("do_center_crop") else options["size"]
        return size.height, size.width

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        if self._options.get("do_pad"):
            width = height = max(width, height)
            if width * height > SQUARE_PIXELS_MAX:
                raise bad_media("the image is too long for its width")
        resized_height, resized_width = self._resized(width, height)
        if resized_height < 1 or resized_width < 1:
            raise bad_media("the model cannot take an image of this size")
        backend = self._checkpoint.backend
        top, left = backend.crop_start(resized_height, self._height), backend.crop_start(resized_width, self._width)
        right, bottom = min(left + self._width, resized_width), min(top + self._height, resized_height)
        box = Box(max(left, 0), max(top, 0), right, bottom)
        resize = backend.resize(resized_width, resized_height, int(self._options["resample"]), box)
        return (Tile(resize, max(-top, 0), max(-left, 0)),)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) after the resize, by the rules of both backends' `resize`."""
        size = self._options["size"]
        if size.shortest_edge and size.longest_edge:
            return between_edges(height, width, size.shortest_edge, size.longest_edge)
        if size.shortest_edge:
            return shortest_edge(height, width, size.shortest_edge)
        if size.max_height and size.max_width:
            return inside(height, width, (size.max_height, size.max_width))
        return size.height, size.width

    def _source(self, pixels: Pixels) -> Pixels:
        height, width, _ = pixels.shape
        if not self._options.get("do_pad") or height == width:
            return pixels
        side = max(height, width)
        square = np.empty((side, side, 3), np.uint8)
        square[...] = self._background
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = pixels
        return square


def _pads_to_square(checkpoint: ImageCheckpoint) -> bool:
    return checkpoint.kind == "LlavaImageProcessor"
