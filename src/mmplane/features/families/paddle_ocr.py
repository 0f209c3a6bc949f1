"""PaddleOCR-VL: a narrow page is widened to one token before it is sized as Qwen2-VL does; patches come row by row.

Bit-equal to `PaddleOCRVLImageProcessor` and `PaddleOCRVLImageProcessorPil`.
"""

from __future__ import annotations

from typing import ClassVar

from mmplane.features.arithmetic.sizes import whole_patches
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import merged_patches, tokenizers_image_token
from mmplane.features.families.patches import Canvas, PatchImageProcessor

KNOWN = Known(
    images={
        "PaddleOCRVLImageProcessor": {
            **IMAGES,
            "size": {"shortest_edge": 384 * 384, "longest_edge": 1536 * 1536},
            "min_pixels": None,
            "max_pixels": None,
            "patch_size": 14,
            "temporal_patch_size": 1,
            "merge_size": 2,
        }
    },
    prompts={"PaddleOCRVLProcessor": merged_patches(tokenizers_image_token())},
    models={
        "paddleocr_vl": Kinds(
            "PaddleOCRVLProcessor", "PaddleOCRVLImageProcessor", tokens={"image": 100295, "video": 100296}
        )
    },
)


class PaddleOcrImageProcessor(PatchImageProcessor):
    """The fast path of the family."""

    in_blocks: ClassVar[bool] = False
    flat: ClassVar[bool] = False

    def _canvas(self, width: int, height: int) -> Canvas:
        size = self._checkpoint.options["size"]
        factor = self._side * self._merge
        height, width = _widened(height, width, factor)
        return Canvas.full(whole_patches(height, width, factor, size.shortest_edge, size.longest_edge))


def _widened(height: int, width: int, factor: int) -> tuple[int, int]:
    """The first step of PaddleOCR-VL's `smart_resize`: no side is shorter than `factor`."""
    if height < factor:
        height, width = factor, round(width * factor / height)
    if width < factor:
        height, width = round(height * factor / width), factor
    return height, width
