"""The video half of a checkpoint of the Qwen-VL family: its video processor's configuration, read without torchvision.

transformers' video processors exist only where torchvision imports. What they do is a few options and closed formulas,
which are read and written down here; the tests hold them against the classes themselves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import torch
import transformers
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.utils.hub import cached_file
from transformers.video_utils import VideoMetadata

from mmplane.core.keys import digest_parts
from mmplane.core.records import Clip
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import BICUBIC
from mmplane.features.checkpoint.image import ImageCheckpoint, Runs

_SHARED = {
    "do_resize": True,
    "resample": BICUBIC,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_frames": 4,
    "max_frames": 768,
    "num_frames": None,
    "cap_pixels_per_frame": None,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Qwen2VLVideoProcessor": {
        **_SHARED,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
        "patch_size": 14,
        "do_sample_frames": False,
        "fps": None,
        "max_video_tokens": 128000,
    },
    "Qwen3VLVideoProcessor": {
        **_SHARED,
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
        "patch_size": 16,
        "do_sample_frames": True,
        "fps": 2,
        "max_video_tokens": 768,
    },
}
"""What each class of transformers takes where a configuration says nothing; every option that changes an output."""

KINDS: Mapping[str, str] = {
    "qwen2_vl": "Qwen2VLVideoProcessor",
    "qwen2_5_vl": "Qwen2VLVideoProcessor",
    "qwen3_vl": "Qwen3VLVideoProcessor",
    "qwen3_vl_moe": "Qwen3VLVideoProcessor",
    "qwen3_5": "Qwen3VLVideoProcessor",
    "qwen3_5_moe": "Qwen3VLVideoProcessor",
}
"""The class of each model type, as in transformers, which forgets its own table where torchvision is missing."""


@dataclass(frozen=True)
class VideoCheckpoint:
    """What transformers knows about videos of one checkpoint: `kind` is the class, `options` are all of `DEFAULTS`."""

    images: ImageCheckpoint
    kind: str
    options: Mapping[str, Any]

    @classmethod
    def load(cls, model_folder: str) -> VideoCheckpoint:
        """Load from a checkpoint folder. Raises ValueError when its videos are not of the Qwen-VL family."""
        images = ImageCheckpoint.load(model_folder)
        settings = _settings(model_folder)
        kind = str(settings.get("video_processor_type") or _kind_of_model(model_folder, settings))
        if kind not in DEFAULTS:
            raise ValueError("this checkpoint's videos are not of the Qwen-VL family, the only one that is built")
        merged = images.processor._merge_kwargs(tokenizer_init_kwargs=images.tokenizer.init_kwargs)
        given = {**settings, **merged["videos_kwargs"]}
        options = {name: given.get(name, default) for name, default in DEFAULTS[kind].items()}
        size = dict(options["size"])
        if kind == "Qwen2VLVideoProcessor":  # older configurations name the limits so
            size["shortest_edge"] = settings.get("min_pixels") or size["shortest_edge"]
            size["longest_edge"] = settings.get("max_pixels") or size["longest_edge"]
        return cls(images, kind, {**options, "size": size})

    def fingerprint(self, encoding: Encoding) -> bytes:
        """32 bytes over class, prompt rules, options, versions and encoding."""
        kinds = f"{self.kind} {type(self.images.processor).__mro__[1].__name__} torch"
        config = json.dumps(dict(self.options), sort_keys=True)
        versions = f"transformers {transformers.__version__} torch {torch.__version__} numpy {numpy.__version__}"
        return digest_parts([kinds.encode(), config.encode(), versions.encode(), encoding.encode()])

    @cached_property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one clip in a prompt (`processor.video_token`)."""
        ids = self.images.tokenizer.encode(self._processor.video_token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError("the video placeholder of this checkpoint is not one token")
        return int(ids[0])

    @cached_property
    def tells_seconds(self) -> bool:
        """Whether the model takes `second_per_grid_ts` (Qwen2.5-VL)."""
        return "second_per_grid_ts" in self.images.processor.model_input_names

    def seconds_per_grid(self, clip: Clip) -> float:
        """How many seconds of the clip one step of its grid stands for."""
        return float(self.options["temporal_patch_size"] / _metadata(clip).sampled_fps)

    def expansion(self, clip: Clip, moments: int, tokens: int) -> Runs:
        """What replaces the placeholder of a clip of so many moments of so many tokens each, as (token id, count) runs.

        By the checkpoint's own rules, which are asked for one token a moment: a clip has up to a million.
        """
        merge = self.options["merge_size"]
        inputs = {"video_grid_thw": numpy.array([[moments, merge, merge]]), "video_metadata": [_metadata(clip)]}
        text = self._processor.replace_video_token(inputs, 0)
        ids = self.images.tokenizer.encode(text, add_special_tokens=False)
        runs = [(int(token), sum(1 for _ in run)) for token, run in groupby(ids)]
        return tuple((token, count * tokens if token == self.placeholder_id else count) for token, count in runs)

    @cached_property
    def _processor(self) -> Any:
        """The checkpoint's Processor with as much of a video processor as its rules for prompts ask for."""
        processor = copy.copy(self.images.processor)
        processor.video_processor = SimpleNamespace(**self.options)
        return processor


def _metadata(clip: Clip) -> VideoMetadata:
    return VideoMetadata(total_num_frames=clip.frames_total, fps=clip.fps, frames_indices=list(clip.indices))


def _settings(model_folder: str) -> dict[str, Any]:
    """The video processor's configuration, from where transformers takes it (`get_video_processor_dict`)."""
    nested: dict[str, Any] = _json(model_folder, "processor_config.json").get("video_processor", {})
    own = _json(model_folder, "video_preprocessor_config.json")
    return nested or own or _json(model_folder, "preprocessor_config.json")


def _kind_of_model(model_folder: str, settings: Mapping[str, Any]) -> str | None:
    """The class where no `video_processor_type` names it (`AutoVideoProcessor`)."""
    guess = str(settings.get("image_processor_type")).replace("ImageProcessor", "VideoProcessor")
    return guess if guess in DEFAULTS else KINDS.get(_json(model_folder, "config.json").get("model_type", ""))


def _json(model_folder: str, name: str) -> dict[str, Any]:
    path = cached_file(model_folder, name, _raise_exceptions_for_missing_entries=False)
    content: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return content
