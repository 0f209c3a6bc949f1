"""What transformers' classes take where a configuration says nothing: every option that changes an output.

The tests hold each row against the class itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmplane.core.records import Modality
from mmplane.features.arithmetic.kernels import BICUBIC, BILINEAR

Options = Mapping[str, Any]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)

_ALL: Options = {
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
_CLIP: Options = {
    **_ALL,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
}

IMAGES: Mapping[str, Options] = {
    "Qwen2VLImageProcessor": {
        **_ALL,
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    },
    "CLIPImageProcessor": _CLIP,
    "LlavaImageProcessor": {**_CLIP, "do_pad": False},
    "SiglipImageProcessor": {
        **_ALL,
        "size": {"height": 224, "width": 224},
        "image_mean": HALVES,
        "image_std": HALVES,
    },
    "Gemma3ImageProcessor": {
        **_ALL,
        "default_to_square": True,
        "size": {"height": 224, "width": 224},
        "resample": BILINEAR,
        "image_mean": HALVES,
        "image_std": HALVES,
        "do_pan_and_scan": None,
    },
    "GotOcr2ImageProcessor": {
        **_ALL,
        "default_to_square": True,
        "size": {"height": 384, "width": 384},
        "crop_to_patches": False,
        "min_patches": 1,
        "max_patches": 12,
    },
    "LlavaNextImageProcessor": {
        **_CLIP,
        "do_pad": True,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    },
}
"""Of image processors, by class (without `Fast` and `Pil`)."""

_CLIPS: Options = {
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

CLIPS: Mapping[str, Options] = {
    "Qwen2VLVideoProcessor": {
        **_CLIPS,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "patch_size": 14,
        "do_sample_frames": False,
        "fps": None,
        "max_video_tokens": 128000,
    },
    "Qwen3VLVideoProcessor": {
        **_CLIPS,
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": HALVES,
        "image_std": HALVES,
        "patch_size": 16,
        "do_sample_frames": True,
        "fps": 2,
        "max_video_tokens": 768,
    },
}
"""Of video processors, by class."""

SOUNDS: Options = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "padding_value": 0.0,
    "dither": 0.0,
}
"""Of Whisper's feature extractor."""


@dataclass(frozen=True)
class Kinds:
    """What serves a type of model, by class, and its tokens, where no file says: nothing where it takes none."""

    processor: str = ""
    image: str = ""
    video: str = ""
    tokens: Mapping[Modality, int] = field(default_factory=dict)


_QWEN: dict[Modality, int] = {"image": 151655, "video": 151656}
_QWEN_3_5: dict[Modality, int] = {"image": 248056, "video": 248057}

MODELS: Mapping[str, Kinds] = {
    "qwen2_vl": Kinds("Qwen2VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", _QWEN),
    "qwen2_5_vl": Kinds("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", _QWEN),
    "qwen3_vl": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _QWEN),
    "qwen3_vl_moe": Kinds("Qwen3VLProcessor", "", "Qwen3VLVideoProcessor", _QWEN),
    "qwen3_5": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _QWEN_3_5),
    "qwen3_5_moe": Kinds("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", _QWEN_3_5),
    "llava": Kinds("LlavaProcessor", "LlavaImageProcessor", tokens={"image": 32000}),
    "llava_next": Kinds("LlavaNextProcessor", "LlavaNextImageProcessor", tokens={"image": 32000}),
    "gemma3": Kinds("Gemma3Processor", "Gemma3ImageProcessor", tokens={"image": 262144}),
    "internvl": Kinds("InternVLProcessor", "GotOcr2ImageProcessor", tokens={"image": 151667}),
    "qwen2_audio": Kinds("Qwen2AudioProcessor", tokens={"audio": 151646}),
    "whisper": Kinds("WhisperProcessor"),
}
"""By `model_type`."""

ADDING = frozenset({"qwen3_vl", "qwen3_vl_moe"})
"""Those whose first layers add to what an image becomes (deepstack), whether or not a file says so."""


def kinds_of(model_type: str) -> Kinds:
    """Those of a type of model; of an unknown one, none."""
    return MODELS.get(model_type, Kinds())
