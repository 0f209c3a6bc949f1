"""The Qwen2-VL family (Qwen2-VL, Qwen2.5-VL, Qwen3-VL): resized to whole patches, cut, each still frame doubled.

Bit-equal to `Qwen2VLImageProcessorPil` or, with torchvision as the backend, `Qwen2VLImageProcessor`. Features are
(patches, 3 x copies x side x side), in blocks of merge x merge.
"""

from __future__ import annotations

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array, Encoding
from mmplane.features.arithmetic.intrinsics import WORD_BYTES
from mmplane.features.arithmetic.sizes import whole_patches
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.contract.image import Pixels
from mmplane.features.families.table import Outline, TableImageProcessor

BAND_ROWS = 64
"""About how many rows are resized at a time: they stay in the second-level cache until they are cut."""


class QwenVLImageProcessor(TableImageProcessor):
    """The fast path of the family."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        options = checkpoint.options
        self._side: int = options["patch_size"]
        self._merge: int = options["merge_size"]
        self._kind = int(options["resample"])
        self._pixels_min: int = options["size"].shortest_edge
        self._pixels_max: int = options["size"].longest_edge

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this configuration is one that this file reproduces."""
        options = checkpoint.options
        return (
            checkpoint.input_names == {"pixel_values", "image_grid_thw"}
            and bool(options["do_resize"])
            and checkpoint.backend.serves(options)
            and options["patch_size"] >= WORD_BYTES
        )

    @staticmethod
    def _geometry(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        return checkpoint.options["patch_size"] ** 2, checkpoint.options["temporal_patch_size"]

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) in pixels after the resize."""
        factor = self._side * self._merge
        try:
            return whole_patches(height, width, factor, self._pixels_min, self._pixels_max)
        except ValueError:
            raise bad_media("the model cannot take an image of this size") from None

    def _outline(self, width: int, height: int) -> Outline:
        resized_height, resized_width = self._size(width, height)
        rows, columns = resized_height // self._side, resized_width // self._side
        tokens = rows * columns // self._merge**2
        return Outline(
            shape=(rows * columns, 3 * self._copies * self._side**2),
            expansion=((self.placeholder_id, tokens),),
            companions={"image_grid_thw": ((1, rows, columns),)},
        )

    def _fill(self, pixels: Pixels, features: Array) -> int:
        height, width = self._size(pixels.shape[1], pixels.shape[0])
        patches = features.reshape(-1, 3, self._copies, self._side, self._side)
        block = self._side * self._merge
        start = written_bytes = 0
        resize = self._checkpoint.backend.resize(width, height, self._kind)
        for _, planes in resize.bands(pixels, max(BAND_ROWS // block, 1) * block):
            end = start + planes.shape[1] * planes.shape[2] // self._side**2
            if self._table is None:
                kernels.cut_bytes(planes, self._merge, 0, patches[start:end])
            else:
                kernels.cut_patches(planes, self._table, self._merge, patches[start:end])
            written_bytes += patches[start:end].nbytes
            start = end
        return written_bytes
