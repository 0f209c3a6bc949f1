"""Common parts of the tile families: an image becomes tiles of one size, each a part of some resize of it.

Features are (..., 3, tile height, tile width). Areas that no resize covers are padding: pixels of value 0, looked up
like all others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array, Encoding
from mmplane.features.arithmetic.resize import Box, Resize
from mmplane.features.arithmetic.sizes import Size
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.prompts import Companions
from mmplane.features.contract.image import Pixels
from mmplane.features.families.table import TableImageProcessor

SQUARE_PIXELS_MAX = 64_000_000
"""No image is padded to a larger square."""
BAND_ROWS = 64
"""Number of rows resized at a time, so that they stay in the second-level cache until they are written."""


@dataclass(frozen=True)
class Tile:
    """One tile: the box of a resize, whose top left corner is at (top, left) of the tile.

    `source` is the number of the image that is resized.
    """

    resize: Resize
    top: int = 0
    left: int = 0
    source: int = 0

    @property
    def size(self) -> Size:
        """(height, width) in pixels of the box."""
        box = self.resize.box
        return box.bottom - box.top, box.right - box.left


@dataclass(frozen=True)
class Grid:
    """(height, width) in pixels, divided into tiles of one size; a resized image is placed on it at `start`."""

    size: Size
    tile: Size
    start: Size = (0, 0)

    def tiles(self, resized: Size, resize: Callable[[int, int, Box], Resize], source: int = 0) -> list[Tile]:
        """The tiles, row by row. `resize` gets (width, height, box)."""
        (height, width), (tile_height, tile_width) = resized, self.tile
        (above, before), (canvas_height, canvas_width) = self.start, self.size
        tiles = []
        for y, x in product(
            range(-above, canvas_height - above, tile_height), range(-before, canvas_width - before, tile_width)
        ):
            left, top = min(max(x, 0), width), min(max(y, 0), height)
            right, bottom = max(min(x + tile_width, width), left), max(min(y + tile_height, height), top)
            tiles.append(Tile(resize(width, height, Box(left, top, right, bottom)), top - y, left - x, source))
        return tiles


class TileImageProcessor(TableImageProcessor):
    """Base of the tile families."""

    _tile: Size
    """(height, width) in pixels, for a family with tiles of one size."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        self._kind = int(checkpoint.options["resample"])

    def _tile_size(self, width: int, height: int) -> Size:  # noqa: ARG002 - of one size for most families
        """(height, width) in pixels of every tile of an image of this size."""
        return self._tile

    @abstractmethod
    def _tiles(self, width: int, height: int) -> Sequence[Tile]:
        """The tiles of an image of this size, in order. Raises RequestError (400)."""

    def _sources(self, pixels: Pixels) -> Sequence[Pixels]:
        """The images that are resized: the image itself, unless a family pads or resizes it first."""
        return (pixels,)

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - many have none
        """The arrays beside the features of an image of this size with this many tiles."""
        return {}

    def _leading(self, tiles: int) -> tuple[int, ...]:
        """The dimensions before the channels."""
        return (tiles,)

    @staticmethod
    def _geometry(checkpoint: ImageCheckpoint) -> tuple[int, int]:  # noqa: ARG004 - the same for all
        return 0, 1

    @staticmethod
    def _check_square(width: int, height: int) -> None:
        """Raise RequestError (400) if the image is too long to be padded to a square."""
        if max(width, height) ** 2 > SQUARE_PIXELS_MAX:
            raise bad_media("the image is too long for its width")

    def _resize(self, width: int, height: int, box: Box | None = None) -> Resize:
        return self._checkpoint.backend.resize(width, height, self._kind, box)

    def _outline(self, width: int, height: int) -> tuple[tuple[int, ...], Companions]:
        tiles = len(self._tiles(width, height))
        shape = (*self._leading(tiles), 3, *self._tile_size(width, height))
        return shape, self._companions(width, height, tiles)

    def _square(self, pixels: Pixels) -> Pixels:
        """The image in the middle of a square of the mean colour."""
        height, width, _ = pixels.shape
        if height == width:
            return pixels
        side = max(height, width)
        square = np.empty((side, side, 3), np.uint8)
        square[...] = np.array([int(mean * 255) for mean in self._checkpoint.options["image_mean"]], np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = pixels
        return square

    def _fill(self, pixels: Pixels, features: Array) -> int:
        sources = self._sources(pixels)
        targets = features.reshape(-1, *features.shape[-3:])
        tiles = zip(self._tiles(pixels.shape[1], pixels.shape[0]), targets, strict=True)
        return sum(self._lay(sources[tile.source], tile, target) for tile, target in tiles)

    def _lay(self, source: Pixels, tile: Tile, target: Array) -> int:
        written_bytes = self._pad(tile, target)
        for y, planes in tile.resize.bands(source, BAND_ROWS):
            if self._table is None:
                bottom, right = tile.top + y + planes.shape[1], tile.left + planes.shape[2]
                target[:, tile.top + y : bottom, tile.left : right] = planes
            else:
                kernels.lay_planes(planes, self._table, tile.top + y, tile.left, target)
            written_bytes += planes.size * target.itemsize
        return written_bytes

    def _pad(self, tile: Tile, target: Array) -> int:
        """Write the area around the tile's box, and nothing else."""
        (height, width), black = tile.size, 0 if self._table is None else self._table[:, :1, None]
        bottom, right = tile.top + height, tile.left + width
        rows = slice(tile.top, bottom)
        borders = (target[:, : tile.top], target[:, bottom:], target[:, rows, : tile.left], target[:, rows, right:])
        for border in borders:
            border[...] = black
        return sum(border.nbytes for border in borders)
