"""MiniCPM-V 4.6: a small view of the image, and slices of a larger one; patches are side by side in one long strip.

Bit-equal to `MiniCPMV4_6ImageProcessor` and `MiniCPMV4_6ImageProcessorPil`. Row y of a view is row y % side of the
patches of row y // side. A prompt numbers its images, which is not part of an image's own tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log, sqrt
from typing import Any

import numpy as np

from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array
from mmplane.features.arithmetic.sizes import Size
from mmplane.features.checkpoint.defaults import HALVES, IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, tokenizers_image_token
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import BAND_ROWS, Grid, Tile, TileImageProcessor


def _pieces(prompt: Prompt) -> Pieces:
    named = prompt.vocabulary.named
    rows, columns = (int(length) for length in prompt.companions["grids"][0])
    merged = _merge(prompt.options) ** 2
    view, *slices = (int(patches) // merged for patches in prompt.companions["target_sizes"].prod(axis=1))
    yield from ((named("image_start_token"), 1), (named("image_token"), view), (named("image_end_token"), 1))
    for row in range(rows):
        if row:
            yield "\n", 1
        for tokens in slices[row * columns : (row + 1) * columns]:
            yield from ((named("slice_start_token"), 1), (named("image_token"), tokens), (named("slice_end_token"), 1))


KNOWN = Known(
    images={
        "MiniCPMV4_6ImageProcessor": {
            **IMAGES,
            "default_to_square": True,
            "size": None,
            "image_mean": HALVES,
            "image_std": HALVES,
            "max_slice_nums": 9,
            "scale_resolution": 448,
            "patch_size": 14,
            "slice_mode": True,
            "downsample_mode": "16x",
            "use_image_id": True,
        }
    },
    prompts={
        "MiniCPMV4_6Processor": PromptRule(
            tokenizers_image_token(), _pieces, frozenset({"pixel_values", "target_sizes"})
        )
    },
    models={"minicpmv4_6": Kinds("MiniCPMV4_6Processor", "MiniCPMV4_6ImageProcessor")},
)


class MiniCPMVImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, 3, side, columns)."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values", "target_sizes"}
            and bool(options["do_resize"])
            and options["downsample_mode"] in ("4x", "16x")
            and bool(options["do_rescale"] or options["do_normalize"])
            and checkpoint.backend.serves(options)
        )

    def _tiles(self, width: int, height: int) -> list[Tile]:
        options = self._checkpoint.options
        grid = _slices(height, width, options) if options["slice_mode"] else None
        view = _best_size(height, width, options, enlarge=grid is None)
        tiles = [Tile(self._resize(view[1], view[0]))]
        if grid is not None:
            rows, columns = grid
            slice_height, slice_width = _nearest(height, rows) / rows, _nearest(width, columns) / columns
            size = _best_size(slice_height, slice_width, options, enlarge=True)
            whole = (size[0] * rows, size[1] * columns)
            tiles += Grid(whole, size).tiles(whole, self._resize)
        return tiles

    def _outline(self, width: int, height: int) -> tuple[tuple[int, ...], Companions]:
        side, options = self._checkpoint.options["patch_size"], self._checkpoint.options
        sizes = np.array([tile.size for tile in self._tiles(width, height)], np.int32)
        grid = _slices(height, width, options) if options["slice_mode"] else None
        shape = (1, 3, side, int(sizes.prod(axis=1).sum()) // side)
        return shape, {"target_sizes": sizes // side, "grids": np.array([grid or (0, 0)])}

    def _fill(self, pixels: Pixels, features: Array) -> int:
        side, strip, left = self._checkpoint.options["patch_size"], features[0], 0
        for tile in self._tiles(pixels.shape[1], pixels.shape[0]):
            for _, planes in tile.resize.bands(pixels, max(BAND_ROWS // side, 1) * side):
                _, rows, width = planes.shape
                for y in range(0, rows, side):
                    row = planes[:, y : y + side]
                    if self._table is None:
                        strip[:, :, left : left + width] = row
                    else:
                        kernels.lay_planes(np.ascontiguousarray(row), self._table, 0, left, strip)
                    left += width
        return features.nbytes


def _merge(options: Mapping[str, Any]) -> int:
    """Number of patches in height and in width that become one token."""
    return 2 if options["downsample_mode"] == "4x" else 4


def _nearest(length: float, divisor: int) -> int:
    """`ensure_divide`."""
    return max(round(length / divisor) * divisor, divisor)


def _best_size(height: float, width: float, options: Mapping[str, Any], *, enlarge: bool) -> Size:
    """`find_best_resize`: whole tokens, of about `scale_resolution` squared pixels."""
    scale, factor = options["scale_resolution"], options["patch_size"] * _merge(options)
    if height * width > scale * scale or enlarge:
        ratio = width / height
        height = int(scale / sqrt(ratio))
        width = int(height * ratio)
    return _nearest(height, factor), _nearest(width, factor)


def _slices(height: int, width: int, options: Mapping[str, Any]) -> tuple[int, int] | None:
    """`get_sliced_grid`: rows and columns of slices, closest in shape to the image; None for a small image."""
    scale, slices_max = options["scale_resolution"], options["max_slice_nums"]
    wanted = min(ceil(width * height / (scale * scale)), slices_max)
    if wanted <= 1:
        return None
    best, least = (1, 1), float("inf")
    for slices in (wanted - 1, wanted, wanted + 1):
        if slices == 1 or slices > slices_max:
            continue
        for rows in range(1, slices + 1):
            columns, rest = divmod(slices, rows)
            error = abs(log(width / height) - log(columns / rows)) if not rest else float("inf")
            if error < least or (error == least and not rest and rows > best[0]):
                best, least = (rows, columns), error
    return best
