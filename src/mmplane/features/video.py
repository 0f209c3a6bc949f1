"""The contract of a video processor: sampled frames in, one after the other; the arrays that the model takes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from mmplane.core.records import Layout
from mmplane.features.processor import Arrays, Pixels

VIDEO_FEATURES = "pixel_values_videos"
"""transformers' name of the array that holds a clip's features; it comes first in a layout."""


@dataclass(frozen=True)
class Clip:
    """What is known of a clip before a frame is decoded: its size and which of its frames are taken.

    `width` and `height` in pixels, after rotation. `indices` are the numbers of the sampled frames in the file, of
    `frames_total`, at `fps` frames a second (None: unknown; transformers then takes 24).
    """

    width: int
    height: int
    frames_total: int
    fps: float | None
    indices: tuple[int, ...]


class VideoProcessor(ABC):
    """Turns the sampled frames of one clip into the arrays that the model takes.

    Pure, like `ImageProcessor`, and called like it: in a worker process, one item at a time, by one thread.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """32 bytes over everything that changes the output: class, configuration, sampling, library versions."""

    @property
    @abstractmethod
    def placeholder_id(self) -> int:
        """The token that stands for one clip in a tokenised prompt; `Layout.expansion` replaces it."""

    @abstractmethod
    def sample(self, frames_total: int, fps: float | None) -> tuple[int, ...]:
        """Which frames to decode, in ascending order. Raises RequestError (400) when the model cannot take so few."""

    @abstractmethod
    def layout(self, clip: Clip) -> Layout:
        """The layout of a clip; no frame is needed. Raises RequestError (400) when the model cannot take it."""

    @abstractmethod
    def write(self, frames: Iterable[Pixels], clip: Clip, out: Arrays) -> None:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from the frames of `indices`.

        Frames are (height, width, 3) uint8 and may be decoded while this runs: each is read once, in order, and not
        kept. An array (frames, height, width, 3) will do. Raises ValueError when there are more or fewer.
        """

    @abstractmethod
    def warm(self) -> None:
        """Do all that happens once, so that no request's path does it."""
