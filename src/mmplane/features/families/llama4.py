"""Llama 4: the image is fitted onto the canvas of tiles that scales it least, padded and split; a small view comes
last.

Bit-equal to `Llama4ImageProcessor`, which transformers only has for torchvision, and which normalises in bfloat16.
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from mmplane.features.arithmetic.encodings import Encoding, cast, widen
from mmplane.features.arithmetic.kernels import BILINEAR
from mmplane.features.arithmetic.sizes import Size
from mmplane.features.arithmetic.table import Table
from mmplane.features.checkpoint.defaults import HALVES, IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, Settings
from mmplane.features.checkpoint.vocabulary import Pieces, Vocabulary
from mmplane.features.families.tiles import Grid, Tile, TileImageProcessor


def _token(_: Vocabulary, settings: Settings) -> str:
    return str(settings.get("image_token", "<|image|>"))


def _pieces(prompt: Prompt) -> Pieces:
    settings, (height, width) = prompt.settings, prompt.shape[-2:]
    side, ratio = settings.get("patch_size", 14), settings.get("pixel_shuffle_ratio", 0.5)
    patches = ("<|patch|>", int((height // side) * (width // side) // round(1.0 / ratio**2)))
    rows, columns = (int(length) for length in prompt.companions["aspect_ratios"][0])
    yield "<|image_start|>", 1
    for _ in range(rows if rows * columns > 1 else 0):
        yield patches
        for _ in range(columns - 1):
            yield "<|tile_x_separator|>", 1
            yield patches
        yield "<|tile_y_separator|>", 1
    yield "<|image|>", 1
    yield patches
    yield "<|image_end|>", 1


KNOWN = Known(
    images={
        "Llama4ImageProcessor": {
            **IMAGES,
            "default_to_square": True,
            "size": {"height": 336, "width": 336},
            "resample": BILINEAR,
            "image_mean": HALVES,
            "image_std": HALVES,
            "max_patches": 16,
            "resize_to_max_canvas": False,
        }
    },
    prompts={"Llama4Processor": PromptRule(_token, _pieces)},
    models={"llama4": Kinds("Llama4Processor", "Llama4ImageProcessor", tokens={"image": 200092})},
    torchvision=frozenset({"Llama4ImageProcessor"}),
)


class Llama4ImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (tiles, 3, side, side), the small view last."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        side, tiles_max = checkpoint.options["size"].height, checkpoint.options["max_patches"]
        self._tile = (side, side)
        sides = range(1, tiles_max + 1)
        self._canvases = [(rows * side, columns * side) for rows in sides for columns in sides[: tiles_max // rows]]

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options, size = checkpoint.options, checkpoint.options["size"]
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"] and options["do_rescale"] and options["do_normalize"])
            and bool(size.height)
            and size.height == size.width
            and checkpoint.backend.serves(options)
        )

    @staticmethod
    def _table_of(checkpoint: ImageCheckpoint) -> Table:
        """Each step is rounded to bfloat16."""
        options = checkpoint.options

        def rounded(values: Any) -> Table:
            return widen(cast(np.asarray(values, np.float32), "bfloat16"), "bfloat16")

        mean, std = (rounded(np.broadcast_to(options[name], (3,)))[:, None] for name in ("image_mean", "image_std"))
        scaled = rounded(np.arange(256, dtype=np.float32) * np.float32(options["rescale_factor"]))
        return np.ascontiguousarray(rounded(rounded(scaled - mean) / std))

    def _canvas(self, width: int, height: int) -> tuple[Size, Size]:
        """(height, width) in pixels of the canvas, and of the image on it."""
        largest, (side, _) = bool(self._checkpoint.options["resize_to_max_canvas"]), self._tile
        canvas = _least_scaled(height, width, self._canvases, largest=largest)
        target = canvas
        if not largest:
            target = (min(max(height, side), canvas[0]), min(max(width, side), canvas[1]))
        return canvas, _undistorted(height, width, target)

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - by the size alone
        canvas, _ = self._canvas(width, height)
        return {"aspect_ratios": np.array([canvas]) // self._tile[0]}

    def _tiles(self, width: int, height: int) -> list[Tile]:
        canvas, resized = self._canvas(width, height)
        tiles = Grid(canvas, self._tile).tiles(resized, self._resize)
        return tiles if len(tiles) == 1 else [*tiles, Tile(self._resize(*self._tile))]


def _least_scaled(height: int, width: int, canvases: list[Size], *, largest: bool) -> Size:
    """Llama 4's `get_best_fit`: the canvas that shrinks the image least, or enlarges it least (`largest`: most).

    Scales are compared in single precision, as in torch; of equal ones, the first with the smallest area is used.
    """
    scales = {
        canvas: min(np.float32(canvas[0]) / np.float32(height), np.float32(canvas[1]) / np.float32(width))
        for canvas in canvases
    }
    enlarging = [scale for scale in scales.values() if scale >= 1]
    best = max(enlarging or scales.values()) if largest or not enlarging else min(enlarging)
    return min((canvas for canvas, scale in scales.items() if scale == best), key=lambda canvas: canvas[0] * canvas[1])


def _undistorted(height: int, width: int, target: Size) -> Size:
    """Llama 4's `get_max_res_without_distortion`: as large as fits into `target`, at least one pixel."""
    down, across = target[0] / height, target[1] / width
    if across < down:
        return max(min(floor(height * across), target[0]), 1), target[1]
    return target[0], max(min(floor(width * down), target[1]), 1)
