"""Videos of the Qwen2-VL family and of GLM-V: frames are resized to whole patches, split, and paired.

Bit-equal to `Qwen2VLVideoProcessor`, `Qwen3VLVideoProcessor`, `Glm4vVideoProcessor` and `Glm46VVideoProcessor` of
transformers, which compute in torch: 8-bit frames are resized like torch does, and rescaling and normalising are one
step. (An image of this family is computed with PIL's arithmetic instead; after a resize the two differ by some 8-bit
steps, mostly if their passes have a different order.)

Features are (patches, 3 x moment x side x side) for moments of `temporal_patch_size` frames, in blocks of
merge x merge. If the last moment lacks frames, the last frame is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmplane.core.errors import bad_media
from mmplane.core.records import Clip, Layout
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array, ByteForm, Encoding, cast, dtype_of, storage_dtype
from mmplane.features.arithmetic.intrinsics import WORD_BYTES
from mmplane.features.arithmetic.resize import TORCH_FILTERS, Resize
from mmplane.features.arithmetic.table import torch_levels
from mmplane.features.checkpoint.video import VideoCheckpoint
from mmplane.features.checkpoint.video_rules import RULES, sampled
from mmplane.features.contract.arrays import Arrays, pack, write_all
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.processor import LAYOUTS_MAX
from mmplane.features.contract.video import VIDEO_FEATURES, ClipRules, VideoProcessor

BAND_ROWS = 64
"""Approximate number of rows resized at a time, so that they stay in the second-level cache until they are cut."""

Bands = Callable[[Resize, Pixels, int], Iterator[tuple[int, kernels.Bytes]]]


class QwenVideoProcessor(VideoProcessor):
    """The video processor of the family. `bands` resizes: with the compiled loops, or with torch itself."""

    def __init__(self, checkpoint: VideoCheckpoint, encoding: Encoding, bands: Bands) -> None:
        options = checkpoint.options
        self._checkpoint, self._encoding, self._bands = checkpoint, encoding, bands
        self._side: int = options["patch_size"]
        self._merge: int = options["merge_size"]
        self._moment: int = options["temporal_patch_size"]
        self._choices = RULES[checkpoint.kind]
        self.rules = checkpoint.rules
        self._layouts = lru_cache(maxsize=LAYOUTS_MAX)(self._layout)
        self.byte_form = ByteForm(torch_levels(checkpoint.options).table(), self._moment * self._side**2, 1)
        self._dtype = dtype_of(encoding)
        self._table = None if self._dtype == "uint8" else _as_bits(cast(self.byte_form.table, encoding))

    def recoded(self, encoding: Encoding) -> QwenVideoProcessor:
        """The same processor in another encoding."""
        return QwenVideoProcessor(self._checkpoint, encoding, self._bands)

    def following(self, rules: ClipRules) -> QwenVideoProcessor:
        """The same processor under other rules."""
        return QwenVideoProcessor(replace(self._checkpoint, rules=rules), self._encoding, self._bands)

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same with arguments of one call. Raises ValueError if they lead to an unsupported configuration."""
        checkpoint = self._checkpoint.adjusted(arguments)
        if not self.serves(checkpoint) or checkpoint.options["size"].keys() != {"shortest_edge", "longest_edge"}:
            raise ValueError(f"{checkpoint.kind} is not built for these arguments: {', '.join(arguments)}")
        return type(self)(checkpoint, self._encoding, self._bands)

    @staticmethod
    def serves(checkpoint: VideoCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options = checkpoint.options
        return (
            bool(options["do_resize"])
            and options["resample"] in TORCH_FILTERS
            and options["patch_size"] >= WORD_BYTES
            and bool(options["do_rescale"] or options["do_normalize"])
            and len(options["image_mean"]) == len(options["image_std"]) == 3
        )

    @property
    def fingerprint(self) -> bytes:
        """Digest of the checkpoint's video options, the versions of the computing packages, and the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        """Sample by the rules of the checkpoint's class and configuration. Raises RequestError (400)."""
        limits, options = (frames_max, fps_max), self._checkpoint.options
        return sampled(self._choices.sample, options, frames_total, fps, limits, self._moment)

    def layout(self, clip: Clip) -> Layout:
        """A closed formula: takes microseconds, or milliseconds if the prompt has the time of every moment."""
        return self._layouts(clip)

    def write(self, frames: Iterable[Pixels], clip: Clip, out: Arrays) -> int:
        """Resize, look up and split, frame by frame and band by band, directly into `out`."""
        layout = self._layouts(clip)
        features: Array = out[VIDEO_FEATURES]
        if features.shape != layout.tensors[0].shape or features.dtype != storage_dtype(self._dtype):
            raise RuntimeError("the slot does not have the shape that the layout said")
        resized_height, resized_width = self._size(clip)
        resize = Resize.whole(resized_width, resized_height, self._checkpoint.options["resample"], as_torch=True)
        moments = _as_bits(features).reshape(self._moments(clip), -1, 3, self._moment, self._side, self._side)
        written_bytes = 0
        for index, frame in zip(range(len(clip.indices)), frames, strict=True):
            if frame.shape != (clip.height, clip.width, 3):
                raise ValueError("a frame does not have the size that the file's header said")
            moment, place = divmod(index, self._moment)
            places = range(place, self._moment if index == len(clip.indices) - 1 else place + 1)
            written_bytes += self._cut(self._bands(resize, frame, self._band_rows), moments[moment], places)
        return written_bytes + write_all(self._companions(clip), out)

    def warm(self) -> None:
        """Run the code once; it was compiled when it was imported."""
        clip = Clip(64, 64, self._moment, None, tuple(range(self._moment)))
        arrays = {t.name: np.empty(t.shape, storage_dtype(t.dtype)) for t in self.layout(clip).tensors}
        self.write(np.zeros((self._moment, 64, 64, 3), np.uint8), clip, arrays)

    @property
    def _band_rows(self) -> int:
        block = self._side * self._merge
        return max(BAND_ROWS // block, 1) * block

    def _cut(self, bands: Iterator[tuple[int, kernels.Bytes]], patches: Array, places: range) -> int:
        start = written_bytes = 0
        for _, planes in bands:
            end = start + planes.shape[1] * planes.shape[2] // self._side**2
            for place in places:
                if self._table is None:
                    kernels.cut_bytes(planes, self._merge, place, patches[start:end])
                else:
                    kernels.cut_frame(planes, self._table, self._merge, place, patches[start:end])
                written_bytes += patches[start:end, :, place].nbytes
            start = end
        return written_bytes

    def _moments(self, clip: Clip) -> int:
        return -(-len(clip.indices) // self._moment)

    def _layout(self, clip: Clip) -> Layout:
        resized_height, resized_width = self._size(clip)
        moments, patches = self._moments(clip), resized_height * resized_width // self._side**2
        shape = (moments * patches, 3 * self._moment * self._side**2)
        companions = [(name, str(value.dtype), value.shape) for name, value in self._companions(clip).items()]
        expansion = self._checkpoint.expansion(clip, moments, patches // self._merge**2)
        return pack([(VIDEO_FEATURES, self._dtype, shape), *companions], expansion)

    def _companions(self, clip: Clip) -> dict[str, npt.NDArray[Any]]:
        height, width = self._size(clip)
        grid = np.array([[self._moments(clip), height // self._side, width // self._side]], np.int64)
        if not self._checkpoint.tells_seconds:
            return {"video_grid_thw": grid}
        seconds = np.array([self._checkpoint.seconds_per_grid(clip)], np.float32)
        return {"video_grid_thw": grid, "second_per_grid_ts": seconds}

    def _size(self, clip: Clip) -> tuple[int, int]:
        """(height, width) in pixels after the resize."""
        if not clip.indices:
            raise bad_media("the clip has no frames")
        try:
            return self._choices.size(self._checkpoint.options, clip.width, clip.height, len(clip.indices))
        except ValueError:
            raise bad_media("the model cannot take a clip of this size and length") from None


def _as_bits(values: Array) -> Array:
    """16-bit floats as uint16 for the compiled loops; everything else as it is."""
    return values.view(np.uint16) if values.dtype == np.float16 else values
