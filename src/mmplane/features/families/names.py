"""The table of families, one row for each."""

from __future__ import annotations

from collections.abc import Mapping

from mmplane.features.checkpoint.known import Known
from mmplane.features.families import (
    fixed_size,
    glm_v,
    idefics3,
    internvl,
    kimi_vl,
    llama4,
    llava_next,
    log_mel,
    minicpm_v,
    paddle_ocr,
    phi4_multimodal,
    pixtral,
    qwen_vl,
)
from mmplane.features.families.table import TableImageProcessor

FAMILIES: tuple[tuple[type[TableImageProcessor], Known], ...] = (
    (qwen_vl.QwenVLImageProcessor, qwen_vl.KNOWN),
    (fixed_size.FixedSizeImageProcessor, fixed_size.KNOWN),
    (internvl.InternVLImageProcessor, internvl.KNOWN),
    (llava_next.LlavaNextImageProcessor, llava_next.KNOWN),
    (pixtral.PixtralImageProcessor, pixtral.KNOWN),
    (glm_v.GlmVImageProcessor, glm_v.KNOWN),
    (idefics3.Idefics3ImageProcessor, idefics3.KNOWN),
    (llama4.Llama4ImageProcessor, llama4.KNOWN),
    (paddle_ocr.PaddleOcrImageProcessor, paddle_ocr.KNOWN),
    (kimi_vl.KimiVLImageProcessor, kimi_vl.KNOWN),
    (minicpm_v.MiniCPMVImageProcessor, minicpm_v.KNOWN),
    (phi4_multimodal.Phi4MultimodalImageProcessor, phi4_multimodal.KNOWN),
)
"""A family's processor for images, and what is known of transformers' classes for them."""

FAST: Mapping[str, type[TableImageProcessor]] = {kind: family for family, known in FAMILIES for kind in known.images}
"""The processors for images, by the image processor's class, without `Fast` and `Pil`."""

KNOWN = Known.merged([*(known for _, known in FAMILIES), log_mel.KNOWN])
"""Everything that is known of transformers' classes."""
