"""Which processor serves a checkpoint: a fast one where its class and configuration are known, else the generic one.

A fast one must give the bits of transformers' PIL backend. Whether it does is tried when it is chosen, on noise of a
few sizes that take every path of the resize; if not (another version of Pillow or transformers, another machine's
rounding), a warning says so and the generic one serves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mmplane.features.checkpoint import ImageCheckpoint
from mmplane.features.encodings import Encoding
from mmplane.features.fixed_size import FixedSizeImageProcessor
from mmplane.features.huggingface import HuggingFaceImageProcessor
from mmplane.features.parity import agree
from mmplane.features.processor import ImageProcessor
from mmplane.features.qwen_vl import QwenVLImageProcessor
from mmplane.features.table import TableImageProcessor
from mmplane.features.tiling import InternVLImageProcessor, LlavaNextImageProcessor

logger = logging.getLogger(__name__)

FAST: Mapping[str, type[TableImageProcessor]] = {
    "Qwen2VLImageProcessorPil": QwenVLImageProcessor,
    "CLIPImageProcessorPil": FixedSizeImageProcessor,
    "SiglipImageProcessorPil": FixedSizeImageProcessor,
    "LlavaImageProcessorPil": FixedSizeImageProcessor,
    "Gemma3ImageProcessorPil": FixedSizeImageProcessor,
    "GotOcr2ImageProcessorPil": InternVLImageProcessor,
    "LlavaNextImageProcessorPil": LlavaNextImageProcessor,
}
"""The fast path of each image processor class of transformers, by its name."""


def image_processor(model_folder: str, *, fast: bool = True, encoding: Encoding = "float32") -> ImageProcessor:
    """The image processor of a checkpoint folder. `fast=False` insists on the generic path.

    Raises ValueError when transformers has no PIL image processor for the checkpoint, or when the encoding is uint8
    and only the generic path can serve.
    """
    checkpoint = ImageCheckpoint.load(model_folder)
    kind = FAST.get(type(checkpoint.image_processor).__name__)
    if fast and kind is not None and kind.serves(checkpoint):
        if agree(kind(checkpoint, "float32"), HuggingFaceImageProcessor(checkpoint)):
            return kind(checkpoint, encoding)
        logger.warning("the fast image processor differs from transformers' own, which serves instead")
    return HuggingFaceImageProcessor(checkpoint, encoding)
