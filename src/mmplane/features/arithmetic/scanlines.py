"""The rows of a PNG with 8 bits: undoes their filters, in place (ISO/IEC 15948, clause 9).

A filter predicts a pixel from its neighbours: the left one, the one above, and the corner between them. Where the left
one counts, a pixel is four numbers of 16 bits in one of 64 (`intrinsics.load_pixel`), so that its channels are computed
at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mmplane.features.arithmetic.compiling import compiled, inlined, writable
from mmplane.features.arithmetic.intrinsics import PIXEL_BYTES, load_pixel, paeth, store_pixel

Bytes = npt.NDArray[np.uint8]

NONE, SUB, UP, AVERAGE, PAETH = range(5)
"""The filters, by the byte before each row."""
_BYTES_OF_LANES = np.int64(0x00FF00FF00FF00FF)
_NOTHING = np.int64(0)


class Scanlines:
    """One picture's rows, with 1, 3 or 4 channels. Filtered ones are put into `filtered`, each behind its filter."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self._shape = height, width, channels
        self._row_bytes = width * channels
        start_bytes, filtered_bytes = 2 * self._row_bytes, height * (1 + self._row_bytes)
        self._buffer = np.empty(start_bytes + filtered_bytes + PIXEL_BYTES, np.uint8)
        self._buffer[: self._row_bytes] = 0
        self.filtered = self._buffer[start_bytes : start_bytes + filtered_bytes].data

    def pixels(self) -> Bytes | None:
        """(height, width, channels) in the same memory; None if a row has an unknown filter. To be called once."""
        height, _, channels = self._shape
        if not undo_filters(self._buffer, height, self._row_bytes, channels):
            return None
        return self._buffer[self._row_bytes : self._row_bytes * (1 + height)].reshape(self._shape)


@inlined
def _copy(raw: Bytes, out: Bytes) -> None:
    for i in range(out.size):
        out[i] = raw[i]


@inlined
def _add(raw: Bytes, above: Bytes, out: Bytes) -> None:
    for i in range(out.size):
        out[i] = raw[i] + above[i]


@inlined
def _pixel(kind: int, buffer: Bytes, raw: int, left: Any, above: Any, corner: Any) -> Any:
    """The filtered pixel at `raw` with what was predicted for it."""
    if kind == SUB:
        predicted = left
    elif kind == AVERAGE:
        predicted = (left + above) >> 1  # what a lane loses falls into bit 15 of another, and is cut off
    else:
        predicted = paeth(left, above, corner)
    return (load_pixel(buffer, raw) + predicted) & _BYTES_OF_LANES


@inlined
def _store(buffer: Bytes, out: int, pixel: Any, channels: int) -> None:
    if channels == 1:
        buffer[out] = np.uint8(pixel)
    else:
        store_pixel(buffer, out, pixel)
    if channels == 4:
        buffer[out + 3] = np.uint8(pixel >> 48)


@inlined
def _undo_one(kind: int, buffer: Bytes, raw: int, out: int, row_bytes: int, channels: int) -> None:
    left = corner = _NOTHING
    for x in range(0, row_bytes, channels):
        above = load_pixel(buffer, out - row_bytes + x)
        left = _pixel(kind, buffer, raw + x, left, above, corner)
        corner = above
        _store(buffer, out + x, left, channels)


@inlined
def _undo_two(buffer: Bytes, raw: int, out: int, row_bytes: int, channels: int) -> None:
    """Two rows with the last filter, the lower one a pixel behind.

    A pixel waits for the one to its left. Neither row waits for the other, so they take little more time than one.
    """
    left = corner = lower_left = lower_corner = _NOTHING
    raw_lower, out_lower = raw + row_bytes + 1 - channels, out + row_bytes - channels
    for x in range(0, row_bytes, channels):
        if x > 0:
            lower_left = _pixel(PAETH, buffer, raw_lower + x, lower_left, left, lower_corner)
            lower_corner = left
            _store(buffer, out_lower + x, lower_left, channels)
        above = load_pixel(buffer, out - row_bytes + x)
        left = _pixel(PAETH, buffer, raw + x, left, above, corner)
        corner = above
        _store(buffer, out + x, left, channels)
    lower_left = _pixel(PAETH, buffer, raw_lower + row_bytes, lower_left, left, lower_corner)
    _store(buffer, out_lower + row_bytes, lower_left, channels)


@inlined
def _undo(buffer: Bytes, height: int, row_bytes: int, channels: int) -> bool:
    y = 0
    while y < height:
        out = row_bytes * (1 + y)
        raw = out + row_bytes + y + 1
        kind = buffer[raw - 1]
        if kind == PAETH and y + 1 < height and buffer[raw + row_bytes] == PAETH:
            _undo_two(buffer, raw, out, row_bytes, channels)
            y += 1
        elif kind == PAETH:
            _undo_one(PAETH, buffer, raw, out, row_bytes, channels)
        elif kind == AVERAGE:
            _undo_one(AVERAGE, buffer, raw, out, row_bytes, channels)
        elif kind == UP:
            _add(buffer[raw : raw + row_bytes], buffer[out - row_bytes : out], buffer[out : out + row_bytes])
        elif kind == SUB:
            _undo_one(SUB, buffer, raw, out, row_bytes, channels)
        elif kind == NONE:
            _copy(buffer[raw : raw + row_bytes], buffer[out : out + row_bytes])
        else:
            return False
        y += 1
    return True


@compiled(types.boolean(writable(types.uint8, 1), types.int64, types.int64, types.int64))
def undo_filters(buffer: Bytes, height: int, row_bytes: int, channels: int) -> bool:
    """Turn filtered rows into pixels; False if a row has an unknown filter.

    `buffer` begins with a row of zeros and room for another one, then come the filtered rows, and `PIXEL_BYTES` that
    may be loaded with the last pixel. The pixels begin behind the row of zeros. At most two rows are done at once, and
    pixels have a byte less for each row, so they are always written before what is still to be read.
    """
    assert buffer.size >= 2 * row_bytes + height * (1 + row_bytes) + PIXEL_BYTES
    assert row_bytes % channels == 0
    assert row_bytes > 0
    if channels == 1:
        return _undo(buffer, height, row_bytes, 1)
    if channels == 3:
        return _undo(buffer, height, row_bytes, 3)
    assert channels == 4
    return _undo(buffer, height, row_bytes, 4)
