"""Common parts of the patch families: resizes an image to whole patches and splits it; may double each still frame.

Patches come in blocks of merge x merge, row by row, or simply row by row. Features are (patches, 3 x copies x side x
side), or (patches, 3 x copies, side, side).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic import kernels, stills
from mmplane.features.arithmetic.encodings import Array, Encoding
from mmplane.features.arithmetic.intrinsics import WORD_BYTES
from mmplane.features.arithmetic.resize import Bands
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.prompts import Companions
from mmplane.features.contract.image import Pixels
from mmplane.features.families.table import TableImageProcessor

BAND_ROWS = 64
"""Approximate number of rows resized at a time, so that they stay in the second-level cache until they are cut."""


@dataclass(frozen=True)
class Canvas:
    """The size after the resize, and that of whole patches around it, with black padding below and right."""

    height: int
    width: int
    padded_height: int
    padded_width: int

    @classmethod
    def full(cls, size: tuple[int, int]) -> Canvas:
        """Without padding, for (height, width) in pixels."""
        return cls(*size, *size)

    def bands(self, resized: Bands) -> Iterator[kernels.Bytes]:
        """The bands of the resized image; the last ones include the padding."""
        for y, planes in resized:
            bottom = y + planes.shape[1]
            rows = self.padded_height - y if bottom == self.height else planes.shape[1]
            if planes.shape[1:] == (rows, self.padded_width):
                yield planes
            else:
                padded = np.zeros((3, rows, self.padded_width), np.uint8)
                padded[:, : planes.shape[1], : planes.shape[2]] = planes
                yield padded


class PatchImageProcessor(TableImageProcessor):
    """Base of the patch families: a subclass defines the output size."""

    in_blocks: ClassVar[bool] = True
    """Whether patches that become one token follow each other; otherwise they come row by row."""

    flat: ClassVar[bool] = True
    """Whether a patch is one row of numbers."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        options = checkpoint.options
        self._side: int = options["patch_size"]
        self._merge: int = options["merge_size"]
        self._block: int = self._merge if self.in_blocks else 1
        self._kind = int(options["resample"])
        levels = checkpoint.backend.levels(options)
        self._levels = (levels.scale, levels.mean, levels.std)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this class supports the configuration."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values", "image_grid_thw"}
            and bool(options["do_resize"])
            and checkpoint.backend.serves(options)
            and options["patch_size"] >= WORD_BYTES
        )

    @staticmethod
    def _geometry(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        return checkpoint.options["patch_size"] ** 2, checkpoint.options.get("temporal_patch_size", 1)

    @abstractmethod
    def _canvas(self, width: int, height: int) -> Canvas:
        """Return the output size for an image of this size. Raises ValueError if the model cannot take it."""

    def _canvas_of(self, width: int, height: int) -> Canvas:
        try:
            return self._canvas(width, height)
        except ValueError:
            raise bad_media("the model cannot take an image of this size") from None

    def _outline(self, width: int, height: int) -> tuple[tuple[int, ...], Companions]:
        canvas = self._canvas_of(width, height)
        rows, columns = canvas.padded_height // self._side, canvas.padded_width // self._side
        sides = (3 * self._copies, self._side, self._side)
        shape = (rows * columns, prod(sides)) if self.flat else (rows * columns, *sides)
        return shape, {"image_grid_thw": np.array([[1, rows, columns]])}

    def _fill(self, pixels: Pixels, features: Array) -> int:
        canvas = self._canvas_of(pixels.shape[1], pixels.shape[0])
        patches = features.reshape(-1, 3, self._copies, self._side, self._side)
        block = self._side * self._block
        resize = self._checkpoint.backend.resize(canvas.width, canvas.height, self._kind)
        start = written_bytes = 0
        for planes in canvas.bands(resize.bands(pixels, max(BAND_ROWS // block, 1) * block)):
            end = start + planes.shape[1] * planes.shape[2] // self._side**2
            if self._table is None:
                stills.cut_bytes(planes, self._block, patches[start:end])
            elif self._table.dtype == np.float32:
                stills.cut_values(planes, *self._levels, self._block, patches[start:end])
            else:
                kernels.cut_patches(planes, self._table, self._block, patches[start:end])
            written_bytes += patches[start:end].nbytes
            start = end
        return written_bytes
