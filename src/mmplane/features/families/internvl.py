"""InternVL (`GotOcr2ImageProcessor`): the image is stretched over a grid of tiles, and a thumbnail follows.

Bit-equal to transformers.
"""

from __future__ import annotations

import numpy as np

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.sizes import best_grid
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.families.tiles import Grid, Tile, TileImageProcessor


def _pieces(prompt: Prompt) -> Pieces:
    named = prompt.vocabulary.named
    tokens = prompt.settings.get("image_seq_length", 256) * int(prompt.companions["num_patches"][0])
    return [(named("start_image_token"), 1), (named("context_image_token"), tokens), (named("end_image_token"), 1)]


KNOWN = Known(
    images={
        "GotOcr2ImageProcessor": {
            **IMAGES,
            "default_to_square": True,
            "size": {"height": 384, "width": 384},
            "crop_to_patches": False,
            "min_patches": 1,
            "max_patches": 12,
        }
    },
    prompts={
        "InternVLProcessor": PromptRule(
            lambda vocabulary, _: vocabulary.named("context_image_token"),
            _pieces,
            images=lambda _: {"crop_to_patches": True},
        )
    },
    models={
        "internvl": Kinds("InternVLProcessor", "GotOcr2ImageProcessor", "InternVLVideoProcessor", {"image": 151667}),
    },
)


class InternVLImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (tiles, 3, height, width), the thumbnail last."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        size = checkpoint.options["size"]
        self._tile = (size.height, size.width)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"])
            and bool(options["size"].height and options["size"].width)
            and bool(options["do_rescale"] or options["do_normalize"])
            and checkpoint.backend.serves(options)
        )

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - by their number alone
        return {"num_patches": np.array([tiles])}

    def _tiles(self, width: int, height: int) -> list[Tile]:
        options, (tile_height, tile_width) = self._checkpoint.options, self._tile
        columns = rows = 1
        if options["crop_to_patches"] and options["max_patches"] > 1:
            columns, rows = best_grid(height, width, self._tile, (options["min_patches"], options["max_patches"]))
        canvas = (rows * tile_height, columns * tile_width)
        tiles = Grid(canvas, self._tile).tiles(canvas, self._resize)
        return tiles if len(tiles) == 1 else [*tiles, Tile(self._resize(tile_width, tile_height))]
