"""Which family serves which class of transformers: one row for each."""

from __future__ import annotations

from collections.abc import Mapping

from mmplane.features.families.fixed_size import FixedSizeImageProcessor
from mmplane.features.families.internvl import InternVLImageProcessor
from mmplane.features.families.llava_next import LlavaNextImageProcessor
from mmplane.features.families.qwen_vl import QwenVLImageProcessor
from mmplane.features.families.table import TableImageProcessor

FAST: Mapping[str, type[TableImageProcessor]] = {
    "Qwen2VLImageProcessor": QwenVLImageProcessor,
    "CLIPImageProcessor": FixedSizeImageProcessor,
    "SiglipImageProcessor": FixedSizeImageProcessor,
    "LlavaImageProcessor": FixedSizeImageProcessor,
    "Gemma3ImageProcessor": FixedSizeImageProcessor,
    "GotOcr2ImageProcessor": InternVLImageProcessor,
    "LlavaNextImageProcessor": LlavaNextImageProcessor,
}
"""By the image processor's class, without `Fast` and `Pil`."""
