"""The Qwen2-VL family (Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5): resized to whole patches between two areas.

Bit-equal to `Qwen2VLImageProcessor` and `Qwen2VLImageProcessorPil`.
"""

from __future__ import annotations

from mmplane.core.records import Modality
from mmplane.features.arithmetic.sizes import whole_patches
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import merged_patches, tokenizers_image_token
from mmplane.features.families.patches import Canvas, PatchImageProcessor

_TOKENS: dict[Modality, int] = {"image": 151655, "video": 151656}
_TOKENS_3_5: dict[Modality, int] = {"image": 248056, "video": 248057}
_RULE = merged_patches(tokenizers_image_token("<|image_pad|>"))

KNOWN = Known(
    images={
        "Qwen2VLImageProcessor": {
            **IMAGES,
            "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
            "min_pixels": None,
            "max_pixels": None,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
        }
    },
    prompts={"Qwen2VLProcessor": _RULE, "Qwen2_5_VLProcessor": _RULE, "Qwen3VLProcessor": _RULE},
    models={
        "qwen2_vl": Kinds("Qwen2VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", _TOKENS),
        "qwen2_5_vl": Kinds("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", _TOKENS),
        "qwen3_vl": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _TOKENS),
        "qwen3_vl_moe": Kinds("Qwen3VLProcessor", "", "Qwen3VLVideoProcessor", _TOKENS),
        "qwen3_5": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _TOKENS_3_5),
        "qwen3_5_moe": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _TOKENS_3_5),
    },
)


class QwenVLImageProcessor(PatchImageProcessor):
    """The fast path of the family."""

    def _canvas(self, width: int, height: int) -> Canvas:
        size = self._checkpoint.options["size"]
        factor = self._side * self._merge
        return Canvas.full(whole_patches(height, width, factor, size.shortest_edge, size.longest_edge))
