"""Phi-4-multimodal: the image is fitted onto a grid of tiles, padded with white and split; a thumbnail comes first.

The thumbnail is an interpolation of the normalised floats, so it cannot be looked up, and there is no uint8 encoding.
Bit-equal to `Phi4MultimodalImageProcessor`, which transformers only has for torchvision.
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.encodings import Array, Encoding, cast
from mmplane.features.arithmetic.kernels import BICUBIC, BILINEAR, shrink_values
from mmplane.features.arithmetic.sizes import Size, best_grid
from mmplane.features.checkpoint.defaults import HALVES, IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, tokenizers_image_token
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import Grid, Tile, TileImageProcessor

SIDE_MIN = 10
"""No image is resized to a shorter side: it is refused."""
WHITE = 255
"""The value of padding."""
MORE_TOKENS = 256 + 1 + 16
"""Tokens of an image beside those of its tiles and the ends of their lines."""

_TOKEN = tokenizers_image_token()


def _pieces(prompt: Prompt) -> Pieces:
    return [(_TOKEN(prompt.vocabulary, prompt.settings), int(prompt.companions["num_img_tokens"][0]))]


_INPUTS = frozenset({"image_pixel_values", "image_sizes", "image_attention_mask"})

KNOWN = Known(
    images={
        "Phi4MultimodalImageProcessor": {
            **IMAGES,
            "do_resize": None,
            "default_to_square": True,
            "size": {"height": 448, "width": 448},
            "image_mean": HALVES,
            "image_std": HALVES,
            "patch_size": 14,
            "dynamic_hd": 36,
        }
    },
    prompts={"Phi4MultimodalProcessor": PromptRule(_TOKEN, _pieces, _INPUTS)},
    models={
        "phi4_multimodal": Kinds(
            "Phi4MultimodalProcessor", "Phi4MultimodalImageProcessor", tokens={"image": 200010, "audio": 200011}
        )
    },
    torchvision=frozenset({"Phi4MultimodalImageProcessor"}),
)


class Phi4MultimodalImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, tiles, 3, side, side), the thumbnail first."""

    features_name: ClassVar[str] = "image_pixel_values"
    has_bytes: ClassVar[bool] = False

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        self._side, self._patch = int(checkpoint.options["size"].height), int(checkpoint.options["patch_size"])
        self._tile = (self._side, self._side)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options, size = checkpoint.options, checkpoint.options["size"]
        return (
            checkpoint.input_names == _INPUTS
            and options["resample"] == BICUBIC
            and bool(size.height)
            and size.height == size.width
            and checkpoint.backend.serves(options)
        )

    def _leading(self, tiles: int) -> tuple[int, ...]:
        return (1, 1 + tiles)

    def _grid(self, width: int, height: int) -> tuple[Size, Size]:
        """`dynamic_preprocess`: (height, width) in pixels of the canvas, and of the image on it.

        Raises RequestError (400).
        """
        side, tiles_max = self._side, self._checkpoint.options["dynamic_hd"]
        columns, rows = ceil(width / side), ceil(height / side)
        if columns * rows > tiles_max:
            columns, rows = best_grid(height, width, self._tile, (1, tiles_max))
        canvas = (rows * side, columns * side)
        down, across = canvas[0] / height, canvas[1] / width
        resized = (int(height * across), canvas[1]) if across < down else (canvas[0], int(width * down))
        if min(resized) < SIDE_MIN:
            raise bad_media("the image is too long for its width")
        return canvas, resized

    def _companions(self, width: int, height: int, tiles: int) -> Companions:
        canvas, resized = self._grid(width, height)
        rows, columns = (length // self._side for length in canvas)
        across = self._side // self._patch
        mask = np.ones((rows * across, columns * across), np.bool_)
        for lines, length, shown in zip((mask, mask.T), canvas, resized, strict=True):
            lines[max(len(lines) - (length - shown) // self._patch, 0) :] = False
        by_tile = mask.reshape(rows, across, columns, across).swapaxes(1, 2)
        tokens = by_tile[:, :, ::2, ::2]  # four patches become one
        lines = tokens[:, 0, :, 0]
        masks = np.concatenate([np.ones((1, across, across), np.bool_), by_tile.reshape(tiles, across, across)])
        return {
            "image_sizes": np.array([canvas]),
            "image_attention_mask": masks[None],
            "num_img_tokens": np.array([MORE_TOKENS + np.count_nonzero(tokens) + np.count_nonzero(lines)]),
        }

    def _tiles(self, width: int, height: int) -> list[Tile]:
        canvas, _ = self._grid(width, height)
        return Grid(canvas, self._tile).tiles(canvas, self._resize)

    def _fill(self, pixels: Pixels, features: Array) -> int:
        canvas = self._canvas(pixels)
        values = np.empty((3, *self._tile), np.float32)
        shrink_values(canvas.reshape(len(canvas), -1), self.byte_form.table, values)
        thumbnail, *targets = features[0]
        thumbnail[...] = cast(values, self._encoding).view(features.dtype)
        written_bytes: int = thumbnail.nbytes
        for tile, target in zip(self._tiles(pixels.shape[1], pixels.shape[0]), targets, strict=True):
            written_bytes += self._lay(canvas, tile, target)
        return written_bytes

    def _canvas(self, pixels: Pixels) -> Pixels:
        """The resized image at the top left of the canvas."""
        (height, width), resized = self._grid(pixels.shape[1], pixels.shape[0])
        canvas = np.full((height, width, 3), WHITE, np.uint8)
        resize = self._checkpoint.backend.resize(resized[1], resized[0], BILINEAR)
        canvas[: resized[0], : resized[1]] = resize.image(pixels)
        return canvas
