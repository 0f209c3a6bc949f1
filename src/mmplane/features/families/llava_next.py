"""LLaVA-NeXT: the image is fitted into one of some given resolutions, padded and cut; a small view comes first.

Bit-equal to transformers.
"""

from __future__ import annotations

from itertools import product

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.resize import Box
from mmplane.features.arithmetic.sizes import best_canvas, on_canvas
from mmplane.features.checkpoint.image import Companions, ImageCheckpoint
from mmplane.features.checkpoint.size import Size
from mmplane.features.families.tiles import Tile, TileImageProcessor


class LlavaNextImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, tiles, 3, side, side), the small view first."""

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces: tiles, crop and small view of one size."""
        options = checkpoint.options
        side = options["size"].shortest_edge or options["size"].height
        crop = options["crop_size"]
        return (
            checkpoint.input_names == {"pixel_values", "image_sizes"}
            and bool(options["do_rescale"] or options["do_normalize"])
            and options["size"] in (Size(shortest_edge=side), Size(side, side))
            and (not options["do_center_crop"] or (crop.height, crop.width) == (side, side))
            and all(edge % side == 0 for pair in options["image_grid_pinpoints"] for edge in pair)
            and checkpoint.backend.serves(options)
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
        options, resize = self._checkpoint.options, self._checkpoint.backend.resize
        kind, side = int(options["resample"]), self._height
        canvas = best_canvas(height, width, options["image_grid_pinpoints"])
        if canvas is None:
            raise bad_media("the model cannot take an image of this size")
        resized_height, resized_width = on_canvas(height, width, canvas)
        above, before = (canvas[0] - resized_height) // 2, (canvas[1] - resized_width) // 2
        tiles = [Tile(resize(side, side, kind))]
        for y, x in product(range(-above, canvas[0] - above, side), range(-before, canvas[1] - before, side)):
            left, top = min(max(x, 0), resized_width), min(max(y, 0), resized_height)
            right, bottom = max(min(x + side, resized_width), left), max(min(y + side, resized_height), top)
            box = Box(left, top, right, bottom)
            tiles.append(Tile(resize(resized_width, resized_height, kind, box), top - y, left - x))
        return tuple(tiles)
