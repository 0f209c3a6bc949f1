"""Which frames of a clip a model looks at, and how large: transformers' rules, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.sizes import whole_patches, whole_patches_of_clip

Options = Mapping[str, Any]
FPS_UNKNOWN = 24
"""What transformers takes for the frames per second of a clip that does not say."""


def _qwen2_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`Qwen2VLVideoProcessor.sample_frames`. Without `fps` or `num_frames` in the configuration it has no answer."""
    moment, wanted = options["temporal_patch_size"], options["num_frames"]
    if wanted is not None:
        wanted = round(wanted / moment) * moment
    elif options["fps"] is not None and fps is not None:
        frames_max = floor(min(options["max_frames"], total) / moment) * moment
        wanted = min(max(total / fps * options["fps"], options["min_frames"]), frames_max, total)
        wanted = floor(wanted / moment) * moment
    else:
        raise bad_media("the clip does not say how many frames it has in a second")
    if not 0 < wanted <= total:
        raise bad_media("the clip has too few frames for this model")
    return tuple(np.arange(0, total, total / wanted).astype(np.float32).astype(int).tolist())  # as torch.arange has it


def _qwen3_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`Qwen3VLVideoProcessor.sample_frames`."""
    wanted = options["num_frames"]
    if wanted is None:
        wanted = total
        if options["fps"] is not None:
            wanted = int(total / (fps or FPS_UNKNOWN) * options["fps"])
        bounded = min(max(wanted, options["min_frames"]), options["max_frames"])
        wanted = bounded if options["fps"] is None else min(bounded, total)
    return tuple(np.linspace(0, total - 1, wanted).round().astype(int).tolist())


def _qwen2_size(options: Options, width: int, height: int, frames: int) -> tuple[int, int]:
    """`Qwen2VLVideoProcessor.resize`: each frame for itself, or for its share of the clip's pixels."""
    factor, size = options["patch_size"] * options["merge_size"], options["size"]
    pixels_max = size["longest_edge"]
    if options["cap_pixels_per_frame"]:
        total = int(options["max_video_tokens"] * factor * factor * 0.9)
        share = total * options["temporal_patch_size"] // frames
        pixels_max = max(min(pixels_max, share), int(size["shortest_edge"] * 1.05))
    return whole_patches(height, width, factor, size["shortest_edge"], pixels_max)


def _qwen3_size(options: Options, width: int, height: int, frames: int) -> tuple[int, int]:
    """`Qwen3VLVideoProcessor.resize`: the limits are for the clip as a whole."""
    factor, size = options["patch_size"] * options["merge_size"], options["size"]
    pixels_max = size["longest_edge"]
    if options["cap_pixels_per_frame"]:
        cap = options["max_video_tokens"] * factor * factor
        pixels_max = max(min(cap, pixels_max // frames), int(size["shortest_edge"] * 1.05)) * frames
    moment = options["temporal_patch_size"]
    return whole_patches_of_clip((frames, height, width), moment, factor, (size["shortest_edge"], pixels_max))


@dataclass(frozen=True)
class VideoRules:
    """The rules of one class: frame numbers from (options, frames in all, frames per second), which may be unknown;
    (height, width) in pixels from (options, width, height, frames taken). Both raise ValueError or RequestError.
    """

    sample: Callable[[Options, int, float | None], tuple[int, ...]]
    size: Callable[[Options, int, int, int], tuple[int, int]]


RULES: Mapping[str, VideoRules] = {
    "Qwen2VLVideoProcessor": VideoRules(_qwen2_sample, _qwen2_size),
    "Qwen3VLVideoProcessor": VideoRules(_qwen3_sample, _qwen3_size),
}
"""By the name of the video processor class of transformers."""
