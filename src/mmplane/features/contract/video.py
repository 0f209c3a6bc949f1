"""The contract of a video processor: turns sampled frames, one by one, into the arrays that the model takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

from mmplane.core.records import Clip, Layout
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.processor import Processor

VIDEO_FEATURES = "pixel_values_videos"
"""transformers' name of the array that holds a clip's features, if they are not those of images; it comes first in a
layout."""


@dataclass(frozen=True)
class ClipRules:
    """Rules for describing and sampling a clip. They change the model's input, so they are part of the fingerprint.

    `true_times`: the model gets the time at which each frame is really shown, and a clip's rate is measured if its
    container has none. Without it, both are what transformers computes, as in an engine: times are frame numbers over
    the rate, and an unknown rate is 24. The server follows the clip, a sidecar follows the engine.

    `seconds_max`: the maximum length of a clip. `pixels_max`: the maximum number of pixels to decode. If the
    checkpoint's choice of frames would need more, a server uses earlier or fewer frames, and a sidecar refuses the
    clip.
    """

    true_times: bool = False
    seconds_max: float = 7200.0
    pixels_max: int = 2_000_000_000


LIBRARY_RULES = ClipRules()


class VideoProcessor(Processor):
    """A processor of clips."""

    rules: ClipRules = LIBRARY_RULES

    holds_frames: ClassVar[bool] = False
    """Whether `write` holds all frames of a clip at once."""

    def following(self, rules: ClipRules) -> VideoProcessor:
        """Return the same processor under other rules."""
        following = copy(self)
        following.rules = rules
        return following

    @abstractmethod
    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        """Return the frames to decode, in ascending order: the checkpoint's own choice, unless that is too many.

        Then as many as allowed, spread by the same rules: at most `frames_max`, and at most `fps_max` per second (0:
        no limit). Raises RequestError (400) if the model cannot take so few.
        """

    @abstractmethod
    def layout(self, clip: Clip) -> Layout:
        """Return the layout of a clip; no frame is needed. Raises RequestError (400) if the model cannot take it."""

    @abstractmethod
    def write(self, frames: Iterable[Pixels], clip: Clip, out: Arrays) -> int:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from the frames of `indices`.

        Returns how many bytes were written, counted where they were written.

        Frames are (height, width, 3) uint8 and may be decoded while this runs: each is read once, in order, and not
        kept unless `holds_frames`. An array (frames, height, width, 3) is accepted too. Raises ValueError if there are
        more or fewer.
        """
