"""Videos of LLaVA-OneVision, InternVL and SmolVLM: every frame is an image, stretched to one size.

Bit-equal to `LlavaOnevisionVideoProcessor`, `InternVLVideoProcessor` and `SmolVLMVideoProcessor` of transformers, which
compute in torch: 8-bit frames are resized like torch does (twice for SmolVLM), and rescaling and normalising are one
step. Features are (1, frames, 3, height, width) or, for InternVL, without the first side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmplane.core.errors import bad_media
from mmplane.core.records import Clip, Layout
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import Array, ByteForm, Encoding, cast, dtype_of, storage_dtype
from mmplane.features.arithmetic.resize import FILTERS, Resize
from mmplane.features.arithmetic.sizes import Size
from mmplane.features.arithmetic.table import torch_levels
from mmplane.features.checkpoint.frames import KINDS, FrameCheckpoint
from mmplane.features.checkpoint.video_rules import sampled
from mmplane.features.contract.arrays import Arrays, pack, write_all
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.processor import LAYOUTS_MAX
from mmplane.features.contract.video import VideoProcessor

SIZES = ("size", "max_image_size")
"""The options that are sizes."""
BAND_ROWS = 64
"""Number of rows resized at a time, so that they stay in the second-level cache until they are written."""


class FrameVideoProcessor(VideoProcessor):
    """The video processor of these families."""

    def __init__(self, checkpoint: FrameCheckpoint, encoding: Encoding = "float32") -> None:
        self._checkpoint, self._encoding = checkpoint, encoding
        self._known = KINDS[checkpoint.kind]
        self._filter: int = checkpoint.options["resample"]
        self._layouts = lru_cache(maxsize=LAYOUTS_MAX)(self._layout)
        self.byte_form = ByteForm(torch_levels(checkpoint.options).table(), 0, 1)
        self._dtype = dtype_of(encoding)
        self._table = None if self._dtype == "uint8" else _as_bits(cast(self.byte_form.table, encoding))

    def recoded(self, encoding: Encoding) -> FrameVideoProcessor:
        """The same processor in another encoding."""
        recoded = FrameVideoProcessor(self._checkpoint, encoding)
        recoded.rules = self.rules
        return recoded

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same with arguments of one call. Raises ValueError if they lead to an unsupported configuration."""
        checkpoint = self._checkpoint.adjusted(arguments)
        if not self.serves(checkpoint):
            raise ValueError(f"the video processor is not built for these arguments: {', '.join(arguments)}")
        adjusted = type(self)(checkpoint, self._encoding)
        adjusted.rules = self.rules
        return adjusted

    @staticmethod
    def serves(checkpoint: FrameCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        known, options = KINDS[checkpoint.kind], checkpoint.options
        rates = (options["num_frames"], options["fps"])
        try:
            return (
                bool(options["do_resize"])
                and not options.get("do_center_crop")
                and all(set(options[name]) == set(known.options[name]) for name in SIZES if name in known.options)
                and options["resample"] in FILTERS
                and bool(options["do_rescale"] or options["do_normalize"])
                and len(options["image_mean"]) == len(options["image_std"]) == 3
                and (not options["do_sample_frames"] or (None in rates) != known.takes_both)
                and options.get("initial_shift", 0) >= 0
            )
        except TypeError:  # null, or a single number
            return False

    @property
    def fingerprint(self) -> bytes:
        """Digest of the checkpoint's files, the versions of the computing packages, and the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int | None:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        """Sample by the rules of the checkpoint's class and configuration. Raises RequestError (400)."""
        limits, options = (frames_max, fps_max), self._checkpoint.options
        return sampled(self._known.sample, options, frames_total, fps, limits)

    def layout(self, clip: Clip) -> Layout:
        """A closed formula: takes microseconds, or milliseconds if the prompt has a text for every frame."""
        return self._layouts(clip)

    def write(self, frames: Iterable[Pixels], clip: Clip, out: Arrays) -> int:
        """Resize and look up, frame by frame and band by band, directly into `out`."""
        features: Array = out[self._known.features]
        if features.shape != self._shape(clip) or features.dtype != storage_dtype(self._dtype):
            raise RuntimeError("the slot does not have the shape that the layout said")
        *earlier, last = (
            Resize.whole(width, height, self._filter, as_torch=True) for height, width in self._sizes(clip)
        )
        written_bytes = 0
        for target, frame in zip(_as_bits(features).reshape(self._shape(clip)[-4:]), frames, strict=True):
            if frame.shape != (clip.height, clip.width, 3):
                raise ValueError("a frame does not have the size that the file's header said")
            for resize in earlier:
                frame = resize.image(frame)
            for top, planes in last.bands(frame, BAND_ROWS):
                if self._table is None:
                    target[:, top : top + planes.shape[1]] = planes
                else:
                    kernels.lay_planes(planes, self._table, top, 0, target)
                written_bytes += planes.size * target.itemsize
        return written_bytes + write_all(self._companions(clip), out)

    def warm(self) -> None:
        """Run the code once; it was compiled when it was imported."""
        clip = Clip(64, 64, 1, None, (0,))
        arrays = {t.name: np.empty(t.shape, storage_dtype(t.dtype)) for t in self.layout(clip).tensors}
        self.write(np.zeros((1, 64, 64, 3), np.uint8), clip, arrays)

    def _layout(self, clip: Clip) -> Layout:
        if not clip.indices:
            raise bad_media("the clip has no frames")
        companions = [(name, str(value.dtype), value.shape) for name, value in self._companions(clip).items()]
        features = (self._known.features, self._dtype, self._shape(clip))
        return pack([features, *companions], self._checkpoint.expansion(clip))

    def _companions(self, clip: Clip) -> dict[str, npt.NDArray[Any]]:
        """A single clip has no padding to mask."""
        if not self._checkpoint.options.get("do_pad"):
            return {}
        *leading, _, height, width = self._shape(clip)
        return {"pixel_attention_mask": np.broadcast_to(np.int64(1), (*leading, height, width))}

    def _shape(self, clip: Clip) -> tuple[int, ...]:
        return (*self._known.leading, len(clip.indices), 3, *self._sizes(clip)[-1])

    def _sizes(self, clip: Clip) -> list[Size]:
        return self._known.sizes(self._checkpoint.options, clip.height, clip.width)


def _as_bits(values: Array) -> Array:
    """16-bit floats as uint16 for the compiled loops; everything else as it is."""
    return values.view(np.uint16) if values.dtype == np.float16 else values
