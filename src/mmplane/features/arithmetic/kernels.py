"""The compiled loops over pixels, features and spectra. Pixels use integer arithmetic or look-ups.

`compiling.py` says when they are compiled. Images are rows of interleaved bytes, (height, 3 x width).
"""

from __future__ import annotations

from math import ceil, pi, sin
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mmplane.features.arithmetic.compiling import compiled, inlined, readable, writable
from mmplane.features.arithmetic.intrinsics import BLOCK, WORD_BYTES, fused, move_word, transpose_block

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Values = npt.NDArray[np.float32] | npt.NDArray[np.uint16]

WEIGHT_BITS = 32 - 8 - 2
"""Pillow's fixed point for 8-bit channels: 22 fractional bits (Resample.c, PRECISION_BITS)."""

LANCZOS, BILINEAR, BICUBIC = 1, 2, 3
"""Pillow's numbers of the filters (`PIL.Image.Resampling`)."""

_HALF, _BITS = np.int32(1 << (WEIGHT_BITS - 1)), np.int32(WEIGHT_BITS)
_ZERO, _FULL = np.int32(0), np.int32(255)
_FAR, _NEAR = np.float32(-3 / 32), np.float32(19 / 32)
"""torch's cubic weights (A = -0.75) of four pixels for the middle between the second and the third."""
STRIP_ROWS = 64
"""Rows of one strip of the horizontal pass, so that its copies stay in the second-level cache."""


_I, _BYTES, _INTS = types.int64, readable(types.uint8, 2), readable(types.int32, 1)
_PLANES, _VALUES = readable(types.uint8, 3), (types.float32, types.uint16)
_TAPS = (_INTS, _INTS, readable(types.int32, 2))


@compiled(types.float64(types.float64, _I))
def filter_value(x: float, kind: int) -> float:
    """The filters of Pillow's Resample.c, operation by operation, in double precision."""
    x = abs(x)
    if kind == BICUBIC:
        if x < 1.0:
            return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
        if x < 2.0:
            return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
        return 0.0
    if kind == BILINEAR:
        return 1.0 - x if x < 1.0 else 0.0
    if x == 0.0:
        return 1.0
    if x < 3.0:
        near, far = x * pi, (x / 3.0) * pi
        return (sin(near) / near) * (sin(far) / far)
    return 0.0


@compiled(types.Tuple((writable(types.int32, 1), writable(types.int32, 1), writable(types.float64, 2)))(_I, _I, _I))
def _shares(size_in: int, size_out: int, kind: int) -> tuple[Ints, Ints, Doubles]:
    """For each output pixel: its first input pixel, the number of input pixels, and their shares, which add up to 1.

    Pillow's `precompute_coeffs` (Resample.c). The order of operations is Pillow's, because it determines how the last
    bit is rounded.
    """
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    support = stretch * (3.0 if kind == LANCZOS else 2.0 if kind == BICUBIC else 1.0)
    first, count = np.empty(size_out, np.int32), np.empty(size_out, np.int32)
    shares = np.zeros((size_out, (ceil(support) * 2 + 4) // 4 * 4))
    step = 1.0 / stretch
    for o in range(size_out):
        centre = (o + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        taps = min(int(centre + support + 0.5), size_in) - start
        total = 0.0
        for t in range(taps):
            shares[o, t] = filter_value((t + start - centre + 0.5) * step, kind)
            total += shares[o, t]
        if total != 0.0:
            for t in range(taps):
                shares[o, t] /= total
        first[o], count[o] = start, taps
    return first, count, shares


@compiled(writable(types.int32, 2)(writable(types.float64, 2), _I))
def _fixed(shares: Doubles, bits: int) -> Ints:
    """The shares with `bits` fractional bits, halves rounded away from zero."""
    fixed = np.empty(shares.shape, np.int32)
    for o in range(shares.shape[0]):
        for t in range(shares.shape[1]):
            share = shares[o, t]
            fixed[o, t] = int((-0.5 if share < 0.0 else 0.5) + share * (1 << bits))
    return fixed


def weights(size_in: int, size_out: int, kind: int) -> tuple[Ints, Ints, Ints]:
    """For each output pixel: its first input pixel, their number, and their weights in Pillow's fixed point.

    There are whole groups of four weights; those after the last input pixel are 0.
    """
    first, count, shares = _shares(size_in, size_out, kind)
    return first, count, _fixed(shares, WEIGHT_BITS)


def torch_weights(size_in: int, size_out: int, kind: int) -> tuple[Ints, Ints, Ints]:
    """The same with torch's weights for 8-bit pixels (UpSampleKernel.cpp, `compute_index_ranges_int16_weights`).

    torch uses Pillow's filters, but its weights have 16 bits: as many fractional ones as the largest weight leaves
    room for. Shifted to Pillow's fixed point they give the sums that torch rounds, so the same loops serve both.
    """
    first, count, shares = _shares(size_in, size_out, kind)
    largest, bits = float(shares.max()), 0
    while bits < WEIGHT_BITS and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    return first, count, _fixed(shares, bits) << np.int32(WEIGHT_BITS - bits)


@inlined
def _four(source: Bytes, i: int, rows: tuple[int, int, int, int], shares: tuple[int, int, int, int]) -> Any:
    """The weighted sum of column i of four rows."""
    near = np.int32(source[rows[0], i]) * shares[0] + np.int32(source[rows[1], i]) * shares[1]
    far = np.int32(source[rows[2], i]) * shares[2] + np.int32(source[rows[3], i]) * shares[3]
    return near + far


@inlined
def _byte(total: Any) -> np.uint8:
    return np.uint8(min(max(np.int32(total) >> _BITS, _ZERO), _FULL))


@inlined
def _weigh(source: Bytes, first: Ints, count: Ints, fixed: Ints, o: int, total: Ints, out: Bytes) -> None:
    """out[o] = the weighted sum of `count[o]` rows of `source` from `first[o]` on, rounded and clipped.

    Four rows at a time, so that the sums are loaded and stored a quarter as often, and never if there are only four.
    `total` is scratch memory. There are no slices, because each costs numba an atomic reference count.
    """
    last = first[o] + count[o] - 1
    for t in range(0, count[o], 4):
        row, ends = first[o] + t, t + 4 >= count[o]
        rows = (row, min(row + 1, last), min(row + 2, last), min(row + 3, last))  # after the last one all weights are 0
        shares = (fixed[o, t], fixed[o, t + 1], fixed[o, t + 2], fixed[o, t + 3])
        if t == 0 and ends:
            for i in range(total.size):
                out[o, i] = _byte(_HALF + _four(source, i, rows, shares))
        elif t == 0:
            for i in range(total.size):
                total[i] = np.int32(_HALF + _four(source, i, rows, shares))
        elif not ends:
            for i in range(total.size):
                total[i] = np.int32(total[i] + _four(source, i, rows, shares))
        else:
            for i in range(total.size):
                out[o, i] = _byte(total[i] + _four(source, i, rows, shares))


@compiled(types.void(_BYTES, *_TAPS, writable(types.uint8, 2)))
def resample_rows(source: Bytes, first: Ints, count: Ints, fixed: Ints, out: Bytes) -> None:
    """Pillow's vertical pass: computes each row of `out` from its rows of `source`, which has the same width."""
    assert fixed.shape[1] % 4 == 0
    total = np.empty(out.shape[1], np.int32)
    for o in range(out.shape[0]):
        _weigh(source, first, count, fixed, o, total, out)


@compiled(types.void(_BYTES, _I, _I, writable(types.uint8, 2)))
def _transpose(source: Bytes, height: int, width: int, out: Bytes) -> None:
    """out[x, y] = source[y, x] for the first `height` rows and `width` bytes; the rest of `out` is not changed."""
    assert height <= source.shape[0]
    assert height <= out.shape[1]
    assert width <= source.shape[1]
    assert width <= out.shape[0]
    tall, wide = height // BLOCK * BLOCK, width // BLOCK * BLOCK
    step, out_step = source.shape[1], out.shape[1]
    for y in range(0, tall, BLOCK):
        for x in range(0, wide, BLOCK):
            transpose_block(source, y * step + x, step, out, x * out_step + y, out_step)
    for x in range(wide):
        for y in range(tall, height):
            out[x, y] = source[y, x]
    for x in range(wide, width):
        for y in range(height):
            out[x, y] = source[y, x]


@compiled(types.void(_BYTES, *_TAPS, writable(types.uint8, 2)))
def resample_columns(source: Bytes, first: Ints, count: Ints, fixed: Ints, out: Bytes) -> None:
    """Pillow's horizontal pass: computes each pixel of `out` from its pixels of the same row of `source`.

    A strip of rows is transposed, because only rows can be added up at the speed of memory, and transposed back.
    """
    assert fixed.shape[1] % 4 == 0
    tall = np.empty((source.shape[1] // 3, 3 * STRIP_ROWS), np.uint8)
    done = np.empty((out.shape[1] // 3, 3 * STRIP_ROWS), np.uint8)
    total = np.empty(3 * STRIP_ROWS, np.int32)
    for y in range(0, out.shape[0], STRIP_ROWS):
        rows = min(STRIP_ROWS, out.shape[0] - y)
        _transpose(source[y : y + rows], rows, source.shape[1], tall.reshape(-1, STRIP_ROWS))
        for o in range(done.shape[0]):
            _weigh(tall, first, count, fixed, o, total, done)
        _transpose(done.reshape(-1, STRIP_ROWS), out.shape[1], rows, out[y : y + rows])


@compiled(types.void(_BYTES, writable(types.uint8, 3)))
def separate(source: Bytes, out: Bytes) -> None:
    """out[c, y, x] = channel c of pixel x of row y."""
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            out[0, y, x], out[1, y, x], out[2, y, x] = source[y, 3 * x], source[y, 3 * x + 1], source[y, 3 * x + 2]


@compiled(types.void(_PLANES, readable(types.uint16, 2), _I, writable(types.uint16, 5)))
def cut_patches(planes: Bytes, table: Values, merge: int, out: Values) -> None:
    """Cut planes (3, rows, width) into patches (patches, 3, copies, side, side), through a table (3, 256).

    Patches are in Qwen2-VL's order: blocks of merge x merge patches, row by row; inside a block, row by row.
    """
    p, copies, side = 0, out.shape[2], out.shape[3]
    for top in range(planes.shape[1] // (merge * side)):
        for across in range(planes.shape[2] // (merge * side)):
            for v in range(merge):
                for h in range(merge):
                    y, x = (top * merge + v) * side, (across * merge + h) * side
                    for c in range(3):
                        for i in range(side):
                            for j in range(side):
                                out[p, c, 0, i, j] = table[c, planes[c, y + i, x + j]]
                        for copy in range(1, copies):
                            for i in range(side):
                                for j in range(side):
                                    out[p, c, copy, i, j] = out[p, c, 0, i, j]
                    p += 1


@inlined
def _cut_bytes(planes: Bytes, merge: int, moment: int, out: Bytes, side: int) -> None:
    to, width = moment * side * side, planes.shape[2]
    for top in range(planes.shape[1] // (merge * side)):
        for across in range(width // (merge * side)):
            for v in range(merge):
                for h in range(merge):
                    for c in range(3):
                        start = (c * planes.shape[1] + (top * merge + v) * side) * width + (across * merge + h) * side
                        for i in range(side):
                            for word in range(0, side - WORD_BYTES, WORD_BYTES):
                                move_word(planes, start + word, out, to + i * side + word)
                            move_word(planes, start + side - WORD_BYTES, out, to + (i + 1) * side - WORD_BYTES)
                            start += width
                        to += out.shape[2] * side * side


@compiled(types.void(_PLANES, _I, _I, writable(types.uint8, 5)))
def cut_bytes(planes: Bytes, merge: int, moment: int, out: Bytes) -> None:
    """Copy the bytes themselves into out[:, :, moment] of patches (patches, 3, moments, side, side), for sides from 8
    on.

    A row is copied by words, of which the last two may overlap. The sides of published models are constants to the
    compiler, which then unrolls a row: four times as fast.
    """
    patches, moments, side = out.shape[0], out.shape[2], out.shape[3]
    assert side >= WORD_BYTES
    assert 0 <= moment < moments
    assert patches * side * side == planes.shape[1] * planes.shape[2]
    if side == 14:
        _cut_bytes(planes, merge, moment, out, 14)
    elif side == 16:
        _cut_bytes(planes, merge, moment, out, 16)
    else:
        _cut_bytes(planes, merge, moment, out, side)


@compiled([types.void(_PLANES, readable(v, 2), _I, _I, writable(v, 5)) for v in _VALUES])
def cut_frame(planes: Bytes, table: Values, merge: int, moment: int, out: Values) -> None:
    """The same as `cut_patches` for one frame of a video: only out[:, :, moment] is written."""
    p, side = 0, out.shape[3]
    for top in range(planes.shape[1] // (merge * side)):
        for across in range(planes.shape[2] // (merge * side)):
            for v in range(merge):
                for h in range(merge):
                    y, x = (top * merge + v) * side, (across * merge + h) * side
                    for c in range(3):
                        for i in range(side):
                            for j in range(side):
                                out[p, c, moment, i, j] = table[c, planes[c, y + i, x + j]]
                    p += 1


@compiled([types.void(_PLANES, readable(v, 2), _I, _I, writable(v, 3)) for v in _VALUES])
def lay_planes(planes: Bytes, table: Values, top: int, left: int, out: Values) -> None:
    """out[c, top + y, left + x] = table[c, planes[c, y, x]]."""
    for c in range(3):
        for y in range(planes.shape[1]):
            for x in range(planes.shape[2]):
                out[c, top + y, left + x] = table[c, planes[c, y, x]]


@inlined
def _tap(position: int, factor: int, number: int, side: int) -> int:
    """The source's pixel that is the number-th of the four around an output pixel, on a side reduced by `factor`."""
    return min(max(factor * position + (factor + 1) // 2 - 2 + number, 0), side - 1)


@inlined
def _cubic(four: tuple[Any, Any, Any, Any], odd: int) -> Any:
    """The second of four values, or the value in the middle, summed in the order of torch's compiled loop."""
    return four[1] if odd else fused(four[3], _FAR, fused(four[2], _NEAR, fused(four[0], _FAR, four[1] * _NEAR)))


@compiled(types.void(_BYTES, readable(types.float32, 2), writable(types.float32, 3)))
def shrink_values(source: Bytes, table: Floats, out: Floats) -> None:
    """Fill out (3, height, width) with torch's bicubic interpolation, without antialiasing, of table[c, source].

    The sides of `source` must be whole multiples of those of `out`. So each output pixel lies on one of the source's
    pixels if the factor is odd, and otherwise in the middle between two, where torch has only two different weights.
    """
    _, height, width = out.shape
    down, across = source.shape[0] // height, source.shape[1] // (3 * width)
    assert down * height == source.shape[0]
    assert across * width * 3 == source.shape[1]
    columns, rows = np.empty((4, width), np.int64), np.empty((4, width), np.float32)
    for t in range(4):
        for x in range(width):
            columns[t, x] = 3 * _tap(x, across, t, across * width)
    first, last = (1, 2) if down % 2 else (0, 4)
    for c in range(3):
        for y in range(height):
            for t in range(first, last):
                row = _tap(y, down, t, source.shape[0])
                for x in range(width):
                    rows[t, x] = _cubic(
                        (
                            table[c, source[row, columns[0, x] + c]],
                            table[c, source[row, columns[1, x] + c]],
                            table[c, source[row, columns[2, x] + c]],
                            table[c, source[row, columns[3, x] + c]],
                        ),
                        across % 2,
                    )
            for x in range(width):
                out[c, y, x] = _cubic((rows[0, x], rows[1, x], rows[2, x], rows[3, x]), down % 2)


@compiled(types.void(_PLANES, readable(types.float32, 2), writable(types.float32, 4)))
def look_up(stored: Bytes, table: Values, out: Values) -> None:
    """out[n, c, copy, i] = table[c, stored[n, c, i]]: undoes the uint8 encoding (`ByteForm`) on a CPU."""
    for n in range(stored.shape[0]):
        for c in range(3):
            for i in range(stored.shape[2]):
                out[n, c, 0, i] = table[c, stored[n, c, i]]
            for copy in range(1, out.shape[2]):
                for i in range(stored.shape[2]):
                    out[n, c, copy, i] = out[n, c, 0, i]


@compiled(
    types.void(
        readable(types.complex128, 2),
        _INTS,
        _INTS,
        readable(types.float64, 2),
        types.float64,
        writable(types.float64, 2),
    )
)
def sum_bands(spectra: Complexes, first: Ints, count: Ints, shares: Doubles, floor: float, out: Doubles) -> None:
    """out[m, f] = the power of spectrum f in band m, at least `floor`.

    A band is `count[m]` frequencies from `first[m]` on, with its shares. Spectra are rounded to single precision first,
    as transformers' `spectrogram` stores them.
    """
    power = np.empty(spectra.shape[1])
    for f in range(spectra.shape[0]):
        for i in range(power.size):
            real, imaginary = np.float64(np.float32(spectra[f, i].real)), np.float64(np.float32(spectra[f, i].imag))
            power[i] = real * real + imaginary * imaginary
        for m in range(first.size):
            total = 0.0
            for t in range(count[m]):
                total += shares[m, t] * power[first[m] + t]
            out[m, f] = max(total, floor)
