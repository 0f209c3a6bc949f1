"""Which frames of a clip a model uses, and their size: transformers' rules as closed formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.sizes import whole_patches, whole_patches_of_clip

Options = Mapping[str, Any]
Sample = Callable[[Options, int, float | None], tuple[int, ...]]
"""Frame numbers from (options, frames in all, frames per second), which may be unknown. Raises RequestError (400)."""
FPS_UNKNOWN = 24
"""transformers' frame rate for a clip without one."""


def _qwen2_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`Qwen2VLVideoProcessor.sample_frames`. It needs `fps` or `num_frames` in the configuration."""
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
    return tuple(np.arange(0, total, total / wanted).astype(np.float32).astype(int).tolist())  # as in torch.arange


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
    """`Qwen2VLVideoProcessor.resize`: limits for each frame, or for its share of the clip's pixels."""
    factor, size = options["patch_size"] * options["merge_size"], options["size"]
    pixels_max = size["longest_edge"]
    if options["cap_pixels_per_frame"]:
        total = int(options["max_video_tokens"] * factor * factor * 0.9)
        share = total * options["temporal_patch_size"] // frames
        pixels_max = max(min(pixels_max, share), int(size["shortest_edge"] * 1.05))
    return whole_patches(height, width, factor, size["shortest_edge"], pixels_max)


def _qwen3_size(options: Options, width: int, height: int, frames: int) -> tuple[int, int]:
    """`Qwen3VLVideoProcessor.resize`: the limits apply to the whole clip."""
    factor, size = options["patch_size"] * options["merge_size"], options["size"]
    pixels_max = size["longest_edge"]
    if options["cap_pixels_per_frame"]:
        cap = options["max_video_tokens"] * factor * factor
        pixels_max = max(min(cap, pixels_max // frames), int(size["shortest_edge"] * 1.05)) * frames
    moment = options["temporal_patch_size"]
    return whole_patches_of_clip((frames, height, width), moment, factor, (size["shortest_edge"], pixels_max))


def _glm4v_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`Glm4vVideoProcessor.sample_frames`, without the last frame's repetition; spread evenly without `fps`."""
    if options["fps"] is None:
        return _spread(total, options["num_frames"])
    if fps is None:
        raise bad_media("the clip does not say how many frames it has in a second")
    seconds, wanted_fps = total / fps, options["fps"]
    if seconds <= options["max_duration"]:
        taken = [ceil(i * fps / wanted_fps) for i in range(max(floor(seconds * wanted_fps), 1))]
    elif (wanted := int(options["max_duration"] * wanted_fps)) >= total:
        return tuple(range(total))
    else:
        taken = [ceil(second * fps) for second in np.linspace(0, seconds, wanted)]
    return tuple(sorted({min(frame, total - 1) for frame in taken}))


GLM_SECONDS_MAX, GLM_FRAMES_MAX = 2400, 640
"""The part of a long clip that GLM-4.6V uses."""


def _glm46v_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`Glm46VVideoProcessor.sample_frames`, without the last frame's repetition; spread evenly without `fps`."""
    if options["fps"] is None:
        return _spread(total, options["num_frames"])
    if fps is None:
        raise bad_media("the clip does not say how many frames it has in a second")
    seconds = min(total / fps, GLM_SECONDS_MAX)
    per_second = options["temporal_patch_size"] * (3 if seconds <= 30 else 1 if seconds <= 300 else 0.5)
    wanted = min(int(seconds * per_second), GLM_FRAMES_MAX)
    taken = list(range(total))
    if total >= wanted:
        taken = _paced(total, fps, per_second)
        if len(taken) < wanted:
            first, last = (taken[0], taken[-1]) if taken else (0, total - 1)
            taken = np.linspace(first, last, wanted, dtype=int).tolist()
        elif len(taken) > wanted:
            taken = np.linspace(0, total - 1, wanted, dtype=int).tolist()
    return tuple(sorted(set(taken)))


def _paced(total: int, fps: float, per_second: float) -> list[int]:
    """The first frame of each time step, until the last whole second."""
    taken, due_s = list[int](), 0.0
    for frame in range(total):
        if frame * (1 / fps) >= due_s:
            due_s += 1 / per_second
            taken.append(frame)
            if due_s >= int(total / fps):
                break
    return taken


def _spread(total: int, wanted: int) -> tuple[int, ...]:
    return tuple(sorted(set(np.linspace(0, total - 1, wanted).round().astype(int).tolist())))


def _glm_size(options: Options, width: int, height: int, frames: int) -> tuple[int, int]:
    """`Glm4vVideoProcessor.resize`, of an even number of frames where they were sampled."""
    factor, size, moment = (
        options["patch_size"] * options["merge_size"],
        options["size"],
        options["temporal_patch_size"],
    )
    taken = frames + frames % 2 if options["do_sample_frames"] else frames
    return whole_patches_of_clip((taken, height, width), moment, factor, (size["shortest_edge"], size["longest_edge"]))


@dataclass(frozen=True)
class VideoRules:
    """The rules of one class. `size` is (height, width) in pixels from (options, width, height, frames taken), or
    raises ValueError.
    """

    sample: Sample
    size: Callable[[Options, int, int, int], tuple[int, int]]


RULES: Mapping[str, VideoRules] = {
    "Qwen2VLVideoProcessor": VideoRules(_qwen2_sample, _qwen2_size),
    "Qwen3VLVideoProcessor": VideoRules(_qwen3_sample, _qwen3_size),
    "Glm4vVideoProcessor": VideoRules(_glm4v_sample, _glm_size),
    "Glm46VVideoProcessor": VideoRules(_glm46v_sample, _glm_size),
}
"""By the name of the video processor class of transformers."""


def onevision_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`default_sample_indices_fn` of transformers."""
    wanted = options["num_frames"]
    if wanted is None:
        if options["fps"] is None:
            return tuple(range(total))
        if fps is None:
            raise bad_media("the clip does not say how many frames it has in a second")
        wanted = max(1, int(total / fps * options["fps"]))
    if not 0 < wanted <= total:
        raise bad_media("the clip has fewer frames than the model takes")
    return tuple(number * total // wanted for number in range(wanted))


def internvl_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`InternVLVideoProcessor.sample_frames`. It needs `fps` or `num_frames` in the configuration."""
    wanted = options["num_frames"]
    if wanted is None:
        if options["fps"] is None or fps is None:
            raise bad_media("neither the clip nor the model says how many frames to take")
        wanted = int(total / fps * options["fps"])
    if not 0 < wanted <= total:
        raise bad_media("the clip has fewer frames than the model takes")
    step, shift = total / wanted, options["initial_shift"]
    start = step / 2 if shift is True else float(shift)
    taken = np.arange(start, total, step).astype(np.float32).astype(int)  # as in torch.arange
    return tuple(taken[taken < total].tolist())  # its rounding can reach the end


def smolvlm_sample(options: Options, total: int, fps: float | None) -> tuple[int, ...]:
    """`SmolVLMVideoProcessor.sample_frames`; spread evenly without `fps`."""
    wanted, wanted_fps = options["num_frames"], options["fps"]
    if wanted_fps is None:
        return _spread(total, wanted)
    if fps is None:
        raise bad_media("the clip does not say how many frames it has in a second")
    seconds, first, last = total / fps, 0, total - 1
    if seconds - 2 > wanted * wanted_fps:  # the first and the last second are left out
        first, last = int(fps), min(int(total - fps), last)
    if first >= last:
        first, last = 0, total - 1
    taken = np.linspace(first, last, max(min(round(wanted_fps * seconds), wanted), 1), dtype=int)
    return tuple(sorted(set(taken.tolist())))


def sampled(
    sample: Sample, options: Options, total: int, fps: float | None, limits: tuple[int, float], moment: int = 1
) -> tuple[int, ...]:
    """The frames that the checkpoint takes, or as many whole moments as allowed, spread by its rule.

    `limits` are frames, and frames per second (0: no limit). Raises RequestError (400).
    """
    own = sample(options, total, fps) if options["do_sample_frames"] else tuple(range(total))
    frames_max, fps_max = limits
    allowed = min(len(own), frames_max or len(own))
    if fps_max:
        allowed = min(allowed, int(total / (fps or FPS_UNKNOWN) * fps_max))
    if allowed == len(own):
        return own
    return sample({**options, "num_frames": max(allowed // moment, 1) * moment, "fps": None}, total, fps)
