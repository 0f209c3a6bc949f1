"""The GLM-V family (GLM-4.1V, GLM-4.5V, GLM-4.6V): a still image is sized as a clip of one moment.

Bit-equal to `Glm4vImageProcessor`, `Glm46VImageProcessor` and their `Pil` versions.
"""

from __future__ import annotations

from mmplane.core.records import Modality
from mmplane.features.arithmetic.sizes import whole_patches_of_clip
from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import merged_patches, tokenizers_image_token
from mmplane.features.families.patches import Canvas, PatchImageProcessor

_OPTIONS = {
    **IMAGES,
    "size": {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 15000},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
_RULE = merged_patches(tokenizers_image_token("<|image|>"))
_TOKENS: dict[Modality, int] = {"image": 151343, "video": 151344}
_TOKENS_MOE: dict[Modality, int] = {"image": 151363, "video": 151364}

KNOWN = Known(
    images={"Glm4vImageProcessor": _OPTIONS, "Glm46VImageProcessor": _OPTIONS},
    prompts={"Glm4vProcessor": _RULE, "Glm46VProcessor": _RULE},
    models={
        "glm4v": Kinds("Glm4vProcessor", "Glm4vImageProcessor", "Glm4vVideoProcessor", _TOKENS),
        "glm4v_moe": Kinds("Glm4vProcessor", tokens=_TOKENS_MOE),
        "glm46v": Kinds("Glm46VProcessor", "Glm46VImageProcessor", "Glm46VVideoProcessor", _TOKENS),
    },
)


class GlmVImageProcessor(PatchImageProcessor):
    """The fast path of the family."""

    def _canvas(self, width: int, height: int) -> Canvas:
        options = self._checkpoint.options
        moment, size = options["temporal_patch_size"], options["size"]
        limits = (size.shortest_edge, size.longest_edge)
        return Canvas.full(whole_patches_of_clip((moment, height, width), moment, self._side * self._merge, limits))
