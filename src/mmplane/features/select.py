"""Which processor serves a checkpoint: a fast one where its class and configuration are known, else the generic one.

A fast one must give the bits of transformers' PIL backend. Whether it does is tried when it is chosen, on noise of a
few sizes that take every path of the resize; if not (another version of Pillow or transformers, another machine's
rounding), a warning says so and the generic one serves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.video import VideoCheckpoint
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.families.fixed_size import FixedSizeImageProcessor
from mmplane.features.families.internvl import InternVLImageProcessor
from mmplane.features.families.llava_next import LlavaNextImageProcessor
from mmplane.features.families.log_mel import LogMelProcessor
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.families.qwen_vl import QwenVLImageProcessor
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.huggingface import HuggingFaceImageProcessor
from mmplane.features.parity import PARITY_SAMPLES, agree, resizes_as_torch, ulps_apart
from mmplane.features.torch_reference import torch_bands

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


def video_processor(model_folder: str, *, fast: bool = True, encoding: Encoding = "float32") -> QwenVideoProcessor:
    """The video processor of a checkpoint folder. `fast=False` resizes with torch itself; the bits are the same.

    Whether they are is tried here, on noise of a few sizes; if not, a warning says so and torch resizes. Raises
    ValueError when the checkpoint's videos are of another family or configuration.
    """
    checkpoint = VideoCheckpoint.load(model_folder)
    if not QwenVideoProcessor.serves(checkpoint):
        raise ValueError("this configuration of the video processor is not built")
    if fast and not resizes_as_torch(checkpoint.options["resample"]):
        logger.warning("the fast resize of video frames differs from torch's, which serves instead")
        fast = False
    return QwenVideoProcessor(checkpoint, encoding, Resize.bands if fast else torch_bands)


def audio_processor(model_folder: str, *, fast: bool = True, encoding: Encoding = "float32") -> LogMelProcessor:
    """The audio processor of a checkpoint folder. `fast=False` insists on transformers' own NumPy path.

    The fast one is tried here on noise; if a value is further than 1 ulp from transformers', a warning says so and
    transformers' own serves. Raises ValueError when the checkpoint's sounds are of another family or configuration.
    """
    checkpoint = AudioCheckpoint.load(model_folder)
    noise = np.random.default_rng(0)
    lengths = [noise.uniform(-1, 1, samples).astype(np.float32) for samples in PARITY_SAMPLES]
    if fast and any(ulps_apart(checkpoint, samples) > 1 for samples in lengths):
        logger.warning("the fast log-mel features differ from transformers' own, which serve instead")
        fast = False
    return LogMelProcessor(checkpoint, encoding, fast=fast)
