"""InternVL (`GotOcr2ImageProcessor`): the image is stretched over a grid of tiles, and a thumbnail follows.

Bit-equal to transformers.
"""

from __future__ import annotations

from itertools import product

from mmplane.features.arithmetic.resize import Box
from mmplane.features.arithmetic.sizes import best_grid
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.families.tiles import Tile, TileImageProcessor


class InternVLImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (tiles, 3, height, width), the thumbnail last."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"])
            and bool(options["size"].height and options["size"].width)
            and bool(options["do_rescale"] or options["do_normalize"])
            and checkpoint.backend.serves(options)
        )

    @staticmethod
    def _tile_size(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        return checkpoint.options["size"].height, checkpoint.options["size"].width

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        options, resize = self._checkpoint.options, self._checkpoint.backend.resize
        kind, columns, rows = int(options["resample"]), 1, 1
        if options["crop_to_patches"] and options["max_patches"] > 1:
            tile = (self._height, self._width)
            columns, rows = best_grid(height, width, tile, (options["min_patches"], options["max_patches"]))
        tiles = [
            Tile(resize(columns * self._width, rows * self._height, kind, Box(x, y, x + self._width, y + self._height)))
            for y, x in product(
                range(0, rows * self._height, self._height), range(0, columns * self._width, self._width)
            )
        ]
        if len(tiles) > 1:
            tiles.append(Tile(resize(self._width, self._height, kind)))
        return tuple(tiles)
