"""Which encoding features travel in: what the operator asked for, or what suits the device (`auto`, `model`).

On a GPU the exact bytes win: an eighth of the copy to the device for the Qwen family, and one table look-up there. On a
CPU every rank would undo the encoding for itself, N times, while float32 is used where it lies; so bytes do not pay.
Every process makes this choice from the same configuration and comes to the same end.
"""

from __future__ import annotations

from typing import Any, cast

from transformers import AutoConfig

from mmplane.config import Config
from mmplane.features.encodings import ENCODINGS, Encoding
from mmplane.features.processor import ImageProcessor
from mmplane.features.select import image_processor


def choose(config: Config) -> tuple[ImageProcessor, Encoding]:
    """The processor of the configured model, in the encoding to use. Raises ValueError when it has no such encoding."""
    wanted = config.encoding
    if wanted == "auto" and config.device == "cuda":
        try:
            return image_processor(config.model_folder, encoding="uint8"), "uint8"
        except ValueError:  # only the generic path serves this model, and it has no bytes to offer
            wanted = "model"
    encoding = (
        _model_dtype(config) if wanted == "model" else cast("Encoding", "float32" if wanted == "auto" else wanted)
    )
    return image_processor(config.model_folder, encoding=encoding), encoding


def _model_dtype(config: Config) -> Encoding:
    """What the model computes in: its own dtype on a GPU, float32 on a CPU."""
    if config.device == "cpu":
        return "float32"
    model: Any = AutoConfig.from_pretrained(config.model_folder, trust_remote_code=False)
    name = str(model.dtype).removeprefix("torch.")
    return name if name in ENCODINGS else "float32"
