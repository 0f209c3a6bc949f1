"""Kimi K2.5 (MoonViT): never enlarged, a limited number of patches, padded to whole tokens; patches come row by row.

Bit-equal to `Kimi_K25ImageProcessor`, which transformers only has for torchvision.
"""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

from mmplane.features.checkpoint.defaults import HALVES, IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import merged_patches, tokenizers_image_token
from mmplane.features.families.patches import Canvas, PatchImageProcessor

KNOWN = Known(
    images={
        "Kimi_K25ImageProcessor": {
            **IMAGES,
            "default_to_square": True,
            "size": {"max_height": 512, "max_width": 512},
            "image_mean": HALVES,
            "image_std": HALVES,
            "max_patches": 16384,
            "patch_size": 14,
            "merge_size": 2,
        }
    },
    prompts={"Kimi_K25Processor": merged_patches(tokenizers_image_token("<|media_pad|>"))},
    models={
        "kimi_k25": Kinds("Kimi_K25Processor", "Kimi_K25ImageProcessor", tokens={"image": 163605, "video": 163840})
    },
    torchvision=frozenset({"Kimi_K25ImageProcessor"}),
)


class KimiVLImageProcessor(PatchImageProcessor):
    """The fast path of the family."""

    in_blocks: ClassVar[bool] = False
    flat: ClassVar[bool] = False

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration; `size` counts patches here."""
        size = checkpoint.options["size"]
        return PatchImageProcessor.serves(checkpoint) and bool(size.max_height) and size.max_height == size.max_width

    def _canvas(self, width: int, height: int) -> Canvas:
        options = self._checkpoint.options
        limits = (options["max_patches"], options["size"].max_height)
        resized_height, resized_width = _at_most_patches(height, width, self._side, limits)
        factor = self._side * self._merge
        padded = (-(-side // factor) * factor for side in (resized_height, resized_width))
        return Canvas(resized_height, resized_width, *padded)


def _at_most_patches(height: int, width: int, side: int, limits: tuple[int, int]) -> tuple[int, int]:
    """`navit_resize` of Kimi: at most `limits[0]` patches in total and `limits[1]` along a side; never enlarged."""
    patches_max, side_max = limits[0], limits[1] * side
    patches = max(1.0, height // side) * max(1.0, width // side)
    scale = min(1.0, sqrt(patches_max / patches), side_max / height, side_max / width)
    resized = (max(1, int(height * scale)), max(1, int(width * scale)))
    return min(resized[0], side_max), min(resized[1], side_max)
