"""What the families of square tiles share: an image becomes tiles of one fixed size, each a part of some resize of it.

Features are (..., 3, tile height, tile width). What no resize covers is padding: a pixel of value 0, looked up like
every other.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array, Encoding
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint.image import Companions, ImageCheckpoint
from mmplane.features.contract.image import Pixels
from mmplane.features.families.table import Outline, TableImageProcessor

BAND_ROWS = 64
"""How many rows are resized at a time: they stay in the second-level cache until they are written."""


@dataclass(frozen=True)
class Tile:
    """One tile: the box of a resize, laid with its top left corner at (top, left) of the tile."""

    resize: Resize
    top: int = 0
    left: int = 0


class TileImageProcessor(TableImageProcessor):
    """Base of the tile families."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        self._height, self._width = self._tile_size(checkpoint)

    @staticmethod
    @abstractmethod
    def _tile_size(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        """(height, width) of every tile in pixels."""

    @abstractmethod
    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        """The tiles of an image of this size, in order. Raises RequestError (400)."""

    def _source(self, pixels: Pixels) -> Pixels:
        """What is resized: the image itself, unless a family pads it first."""
        return pixels

    def _companions(self, width: int, height: int) -> Companions:  # noqa: ARG002 - most families have none
        """Small arrays beside the features, from the image's size."""
        return {}

    @classmethod
    def _geometry(cls, checkpoint: ImageCheckpoint) -> tuple[int, int]:
        height, width = cls._tile_size(checkpoint)
        return height * width, 1

    def _outline(self, width: int, height: int) -> Outline:
        tiles, companions = len(self._tiles(width, height)), self._companions(width, height)
        shape = (*self._leading(tiles), 3, self._height, self._width)
        return Outline(shape, self._checkpoint.expansion(shape, companions, tiles), companions)

    def _leading(self, tiles: int) -> tuple[int, ...]:
        """The dimensions before the channels."""
        return (tiles,)

    def _fill(self, pixels: Pixels, features: Array) -> int:
        source = self._source(pixels)
        targets = features.reshape(-1, 3, self._height, self._width)
        tiles = zip(self._tiles(pixels.shape[1], pixels.shape[0]), targets, strict=True)
        return sum(self._lay(source, tile, target) for tile, target in tiles)

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
        """Write what lies around the tile's box, and nothing else."""
        box, black = tile.resize.box, 0 if self._table is None else self._table[:, :1, None]
        bottom, right = tile.top + box.bottom - box.top, tile.left + box.right - box.left
        rows = slice(tile.top, bottom)
        borders = (target[:, : tile.top], target[:, bottom:], target[:, rows, : tile.left], target[:, rows, right:])
        for border in borders:
            border[...] = black
        return sum(border.nbytes for border in borders)
