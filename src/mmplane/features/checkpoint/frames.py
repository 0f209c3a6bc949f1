"""The video half of a LLaVA-OneVision checkpoint: each frame is an image, and a clip's placeholder is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isqrt
from typing import Any

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import BICUBIC
from mmplane.features.checkpoint.arguments import check_names
from mmplane.features.checkpoint.defaults import CLIP_MEAN, CLIP_STD, Options
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Known
from mmplane.features.checkpoint.video import clip_settings
from mmplane.features.checkpoint.vocabulary import Vocabulary

KIND = "LlavaOnevisionVideoProcessor"
PROCESSOR = "LlavaOnevisionProcessor"
OPTIONS: Options = {
    "do_resize": True,
    "size": {"height": 384, "width": 384},
    "resample": BICUBIC,
    "do_center_crop": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_sample_frames": False,
    "num_frames": None,
    "fps": None,
}
"""Defaults of the class."""


@dataclass(frozen=True)
class FrameCheckpoint:
    """A checkpoint's settings for clips; `options` as in `OPTIONS`."""

    files: CheckpointFiles
    options: Mapping[str, Any]
    compared: bool = True

    @classmethod
    def load(cls, model_folder: str, known: Known) -> FrameCheckpoint:
        """Read a checkpoint folder. Raises ValueError if its videos are of another family."""
        files = CheckpointFiles(model_folder)
        settings, kinds = clip_settings(files), known.kinds_of(files.model_type)
        processor = files.json("processor_config.json").get("processor_class") or kinds.processor
        kind = settings.get("video_processor_type") or (KIND if kinds.processor == PROCESSOR else "")
        if kind != KIND or processor != PROCESSOR:
            raise ValueError("this checkpoint's videos are not of LLaVA-OneVision")
        if not files.json("processor_config.json").get("num_image_tokens"):
            raise ValueError("this checkpoint's processor_config.json does not say num_image_tokens")
        return cls(files, {name: settings.get(name, default) for name, default in OPTIONS.items()})

    def adjusted(self, arguments: Mapping[str, Any]) -> FrameCheckpoint:
        """The same with arguments of one call. Raises ValueError for those that the class does not support."""
        check_names(KIND, arguments, set(OPTIONS) - {"resample", "fps"})
        alone = {"fps": None} if "num_frames" in arguments else {}
        return replace(self, options={**self.options, **arguments, **alone})

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding."""
        return self.files.fingerprint("video", encoding, compared=self.compared)

    @cached_property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one clip in a prompt."""
        vocabulary = Vocabulary(self.files)
        return vocabulary.one(vocabulary.named("video_token", "<video>"))

    def tokens(self, frames: int) -> int:
        """How often the placeholder is repeated: each frame's tokens are pooled by two, and one ends the clip."""
        side = ceil(isqrt(int(self.files.json("processor_config.json")["num_image_tokens"])) / 2)
        return frames * side * side + 1
