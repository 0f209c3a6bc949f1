"""Defaults of transformers' classes: every option that changes an output.

Defaults that only one class of image processors has are in its family's file. The tests compare each option with the
class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmplane.features.arithmetic.kernels import BICUBIC

Options = Mapping[str, Any]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)

IMAGES: Options = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "default_to_square": False,
    "resample": BICUBIC,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_center_crop": None,
    "crop_size": None,
    "do_pad": None,
    "pad_size": None,
}
"""Defaults of all image processors."""

_CLIPS: Options = {
    "do_resize": True,
    "resample": BICUBIC,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
_QWEN_CLIPS: Options = {
    **_CLIPS,
    "min_frames": 4,
    "max_frames": 768,
    "num_frames": None,
    "cap_pixels_per_frame": None,
}

_GLM_CLIPS: Options = {
    **_CLIPS,
    "size": {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 2 * 30000},
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "patch_size": 14,
    "do_sample_frames": True,
    "fps": 2,
    "max_duration": 300,
}

CLIPS: Mapping[str, Options] = {
    "Qwen2VLVideoProcessor": {
        **_QWEN_CLIPS,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "patch_size": 14,
        "do_sample_frames": False,
        "fps": None,
        "max_video_tokens": 128000,
    },
    "Qwen3VLVideoProcessor": {
        **_QWEN_CLIPS,
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": HALVES,
        "image_std": HALVES,
        "patch_size": 16,
        "do_sample_frames": True,
        "fps": 2,
        "max_video_tokens": 768,
    },
    "Glm4vVideoProcessor": _GLM_CLIPS,
    "Glm46VVideoProcessor": _GLM_CLIPS,
}
"""Defaults of video processors, by class."""

SOUNDS: Options = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "padding_value": 0.0,
    "dither": 0.0,
}
"""Defaults of Whisper's feature extractor."""

ADDING = frozenset({"qwen3_vl", "qwen3_vl_moe"})
"""Types of models whose first layers add to an image's embeddings (deepstack), whether or not a file says so."""
