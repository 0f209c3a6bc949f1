"""Pillow's resize of an 8-bit RGB image, bit for bit, in bands: there is no temporary of the image's size.

Pillow resizes in two passes with an 8-bit image between them, and leaves out a pass that would not change its side.
The order of the passes changes the last bit; the rule is that of Pillow 13 (Resample.c, ImagingResampleInner). With
another Pillow the parity check finds a difference and the generic path serves.

torch's resize of 8-bit images (antialiased, as torchvision calls it) is the same except for coarser weights, and
always starts with the horizontal pass. `as_torch` gives its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.intrinsics import BLOCK
from mmplane.features.arithmetic.kernels import STRIP_ROWS, Bytes, Ints

FILTERS = frozenset({kernels.LANCZOS, kernels.BILINEAR, kernels.BICUBIC})
"""The supported filters, by Pillow's numbers."""

TORCH_FILTERS = frozenset({kernels.BILINEAR, kernels.BICUBIC})
"""Those of them that older versions of torch also have."""

Taps = tuple[Ints, Ints, Ints]

Bands = Iterator[tuple[int, Bytes]]
"""(row, planes), from top to bottom."""


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Resize:
    """A resize to width x height pixels with one of `FILTERS`; only `box` of the result is computed."""

    width: int
    height: int
    kind: int
    box: Box
    as_torch: bool = False

    @classmethod
    def whole(cls, width: int, height: int, kind: int, *, as_torch: bool = False) -> Resize:
        """A resize whose whole result is needed."""
        return cls(width, height, kind, Box(0, 0, width, height), as_torch)

    def bands(self, pixels: Bytes, rows: int) -> Bands:
        """Yield (y, planes): row y of the box and up to `rows` - 1 more, as (3, rows, box width) uint8.

        `pixels` are (height, width, 3) RGB. The next band overwrites the planes.
        """
        height, width = self.box.bottom - self.box.top, self.box.right - self.box.left
        if height < 1 or width < 1:
            return
        lines = _Lines(pixels, self)
        planes = np.empty((3, min(rows, height), width), np.uint8)
        for start in range(0, height, rows):
            end = min(start + rows, height)
            band = planes if end - start == planes.shape[1] else np.empty((3, end - start, width), np.uint8)
            kernels.separate(lines.of(start, end), band)
            yield start, band

    def image(self, pixels: Bytes) -> Bytes:
        """The whole box, (height, width, 3)."""
        height, width = self.box.bottom - self.box.top, self.box.right - self.box.left
        lines, image = _Lines(pixels, self), np.empty((height, 3 * width), np.uint8)
        for start in range(0, height, STRIP_ROWS):
            end = min(start + STRIP_ROWS, height)
            image[start:end] = lines.of(start, end)
        return image.reshape(height, width, 3)


class _Lines:
    """The lines of one box of a resized image, (rows, 3 x width) bytes, requested from top to bottom.

    Only the part of the source that the box needs is read: columns are cut off before the passes.
    """

    def __init__(self, pixels: Bytes, resize: Resize) -> None:
        (height, width, _), box = pixels.shape, resize.box
        shorter = height - resize.height
        self._down_first = not resize.as_torch and shorter > 0 and shorter > 2 * (width - resize.width)
        weights = kernels.torch_weights if resize.as_torch else kernels.weights
        self._across, (left, right) = _taps(weights, (width, resize.width, resize.kind), box.left, box.right)
        self._down, (top, bottom) = _taps(weights, (height, resize.height, resize.kind), box.top, box.bottom)
        self._source = np.ascontiguousarray(pixels[top:bottom, left:right]).reshape(bottom - top, -1)
        self._window = np.empty((0, 3 * (box.right - box.left)), np.uint8)
        self._window_start = 0

    def of(self, start: int, end: int) -> Bytes:
        """Lines start..end of the box."""
        if self._down is None:
            return self._passed_across(start, end) if self._across else self._source[start:end]
        first, count, weights = (part[start:end] for part in self._down)
        top, bottom = int(first[0]), int((first + count).max())
        across_first = self._across is not None and not self._down_first
        window = self._passed_across(top, bottom) if across_first else self._source[top:bottom]
        rows = end - start
        whole = -(-rows // BLOCK) * BLOCK  # in the horizontal pass, rows beside whole blocks take many times as long
        lines = np.empty((whole, window.shape[1]), np.uint8)
        kernels.resample_rows(window, first - np.int32(top), count, weights, lines[:rows])
        if across_first or self._across is None:
            return lines[:rows]
        passed = np.empty((whole, self._window.shape[1]), np.uint8)
        kernels.resample_columns(lines, *self._across, passed)
        return passed[:rows]

    def _passed_across(self, start: int, end: int) -> Bytes:
        """Source rows start..end after the horizontal pass. Rows that two bands share are computed once."""
        window_end = self._window_start + len(self._window)
        if end > window_end:
            assert self._across is not None
            kept = self._window[start - self._window_start :] if start < window_end else self._window[:0]
            above = start + len(kept)
            fresh = min(-(-(end - above) // STRIP_ROWS) * STRIP_ROWS, len(self._source) - above)
            window = np.empty((len(kept) + fresh, self._window.shape[1]), np.uint8)
            window[: len(kept)] = kept
            kernels.resample_columns(self._source[above : above + fresh], *self._across, window[len(kept) :])
            self._window, self._window_start = window, start
        return self._window[start - self._window_start : end - self._window_start]


def _taps(
    weights: Callable[[int, int, int], Taps], sizes_and_kind: tuple[int, int, int], start: int, end: int
) -> tuple[Taps | None, tuple[int, int]]:
    """The taps of outputs start..end, and the range of inputs that they use; the taps count from its start.

    There are no taps if the pass is left out because it would not change its side.
    """
    size_in, size_out, kind = sizes_and_kind
    if size_in == size_out:
        return None, (start, end)
    first, count, fixed = (part[start:end] for part in weights(size_in, size_out, kind))
    lowest = int(first[0])
    return (first - np.int32(lowest), count, fixed), (lowest, int((first + count).max()))
