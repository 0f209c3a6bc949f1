"""Clips of a family without a fast path: the checkpoint's own Processor and video processor, which need torchvision.

Frames are chosen by the video processor's own rule before they are decoded. The call then gets the chosen frames, their
numbers, and the facts of the whole clip, which gives the same as a call with all frames. All chosen frames are in
memory at once, so their number of pixels is limited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Self

import numpy as np
from transformers.video_utils import VideoMetadata

from mmplane.core.errors import bad_media
from mmplane.core.records import Clip, Layout
from mmplane.features.arithmetic.encodings import Array, Encoding, dtype_of
from mmplane.features.checkpoint.video_rules import FPS_UNKNOWN
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.processor import LAYOUTS_MAX
from mmplane.features.contract.video import VIDEO_FEATURES, VideoProcessor
from mmplane.features.reference.whole import WholeCheckpoint, fill, measured, said

PIXELS_MAX = 60_000_000
"""How many pixels all chosen frames may have: 65 of 1280x720."""
NOT_OF_SAMPLING = frozenset(
    {"input_data_format", "do_convert_rgb", "do_sample_frames", "device", "video_metadata", "return_tensors"}
)
"""Options that `preprocess` keeps from the rule."""
TRIAL = Clip(96, 64, 64, 8.0, tuple(range(64)))
"""A clip that every model accepts, before its frames are chosen."""


class HuggingFaceVideoProcessor(VideoProcessor):
    """Calls the checkpoint's own Processor on the chosen frames."""

    holds_frames = True

    def __init__(self, checkpoint: WholeCheckpoint, encoding: Encoding = "float32") -> None:
        if dtype_of(encoding) == "uint8":
            raise ValueError("uint8 encoding needs a fast video processor, which this checkpoint does not have")
        self._checkpoint, self._encoding = checkpoint, encoding
        self._options = checkpoint.options
        self._measured = lru_cache(maxsize=LAYOUTS_MAX)(self._measure)

    @classmethod
    def load(cls, model_folder: str, encoding: Encoding = "float32") -> HuggingFaceVideoProcessor:
        """Load from a checkpoint folder, and try it. Raises ValueError with the reason if it cannot work here."""
        found = cls(WholeCheckpoint.load(model_folder, "video"), encoding)
        found._checkpoint.tried(found._try)
        return found

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same with arguments of one call, which transformers checks. Raises ValueError.

        `num_frames` replaces the checkpoint's `fps`, because transformers refuses both together.
        """
        alone = {"fps": None} if "num_frames" in arguments else {}
        try:
            adjusted = type(self)(self._checkpoint.adjusted({**arguments, **alone}), self._encoding)
            adjusted._try()
        except Exception as error:  # noqa: BLE001 - transformers checks them in many ways
            raise ValueError(f"transformers refuses these arguments: {said(error)}") from None
        adjusted.rules = self.rules
        return adjusted

    @property
    def fingerprint(self) -> bytes:
        """The checkpoint's digest, with the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        """Sample by the video processor's own rule, or evenly if that is too many. Raises RequestError (400)."""
        own = _distinct(self._chosen(frames_total, fps))
        limits = [len(own), *([frames_max] if frames_max else [])]
        if fps_max:
            limits.append(int(frames_total / (fps or FPS_UNKNOWN) * fps_max))
        if (wanted := max(min(limits), 1)) == len(own):
            return own
        return _distinct(np.linspace(0, frames_total - 1, wanted).round())

    def layout(self, clip: Clip) -> Layout:
        """Measured once for each clip. Raises RequestError (400)."""
        return self._measured(clip.width, clip.height, clip.frames_total, clip.fps, clip.indices)

    def write(self, frames: Iterable[Pixels], clip: Clip, out: Arrays) -> int:
        """Collect the frames, call the Processor and copy what it returns into `out`."""
        held = np.empty((len(clip.indices), clip.height, clip.width, 3), np.uint8)
        for place, frame in zip(held, frames, strict=True):
            if frame.shape != place.shape:
                raise ValueError("a frame does not have the size that the file's header said")
            place[...] = frame
        arrays, _ = self._call(held, clip.frames_total, clip.fps, clip.indices)
        return fill(arrays, out, self._encoding)

    def warm(self) -> None:
        """Nothing is left: it was called when it was loaded."""

    def _measure(
        self, width: int, height: int, frames_total: int, fps: float | None, indices: tuple[int, ...]
    ) -> Layout:
        if width * height * len(indices) > PIXELS_MAX:
            raise bad_media(f"the clip's frames have too many pixels: without a fast path, {PIXELS_MAX} in total")
        blank = np.zeros((len(indices), height, width, 3), np.uint8)
        what = "a clip of this size and length"
        return measured(what, lambda: self._call(blank, frames_total, fps, indices), self._encoding)

    def _call(
        self, frames: Pixels, frames_total: int, fps: float | None, indices: tuple[int, ...]
    ) -> tuple[dict[str, Array], Any]:
        """The call for the frames of `indices`. If the rule chose one twice, it stands there twice."""
        chosen: Any = np.array(indices)
        if self._samples and _distinct(own := self._chosen(frames_total, fps)) == indices:
            chosen = own
        places = np.searchsorted(indices, np.asarray(chosen, dtype=int))
        height, width = frames.shape[1:3]
        metadata = self._facts(frames_total, fps)
        metadata.frames_indices, metadata.width, metadata.height = chosen, width, height
        given = frames if len(places) == len(frames) else frames[places]
        return self._checkpoint.call(given, VIDEO_FEATURES, video_metadata=[metadata], do_sample_frames=False)

    def _chosen(self, frames_total: int, fps: float | None) -> Any:
        """The numbers of the frames that the video processor takes, as it returns them. Raises RequestError (400)."""
        if not self._samples:
            return np.arange(frames_total)
        part = self._checkpoint.part
        own = {name: getattr(part, name, None) for name in part.valid_kwargs.__annotations__}
        options = {name: value for name, value in (own | self._options).items() if name not in NOT_OF_SAMPLING}
        try:
            return part.sample_frames(metadata=self._facts(frames_total, fps), **options)
        except Exception as error:  # noqa: BLE001 - processors raise many types, and only the clip can be wrong
            raise bad_media(f"transformers cannot choose frames of this clip: {said(error)}") from None

    def _facts(self, frames_total: int, fps: float | None) -> Any:
        return VideoMetadata(frames_total, fps=fps, duration=None if fps is None else frames_total / fps)

    @property
    def _samples(self) -> bool:
        return bool(self._options.get("do_sample_frames", getattr(self._checkpoint.part, "do_sample_frames", False)))

    def _try(self) -> None:
        indices = self.sample(TRIAL.frames_total, TRIAL.fps)
        self._measured(TRIAL.width, TRIAL.height, TRIAL.frames_total, TRIAL.fps, indices)


def _distinct(numbers: Any) -> tuple[int, ...]:
    return tuple(sorted({int(number) for number in numbers}))
