"""What numba does not offer, as LLVM instructions, for every processor that LLVM supports.

numba reads and writes one byte at a time if rows are short or side by side. Two functions move whole words instead:
`move_word` moves eight bytes between any positions, `transpose_block` sixteen rows of sixteen bytes. `load_pixel` and
`store_pixel` move a pixel from and to four lanes of 16 bits, with which `paeth` computes. None of them checks bounds,
so the caller must stay inside its arrays. `fused` multiplies and adds with one rounding.
"""

# ruff: noqa: ARG001 - an intrinsic is given the types of its arguments, and has no use for most
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

Bytes = npt.NDArray[np.uint8]

WORD_BYTES, BLOCK, PIXEL_BYTES, LINE_PART_BYTES = 8, 16, 4, 16

_BYTE = ir.IntType(8)
_PIXEL, _LANES = ir.VectorType(_BYTE, PIXEL_BYTES), ir.VectorType(ir.IntType(16), PIXEL_BYTES)
_LOW_HALVES = [lane for i in range(BLOCK // 2) for lane in (i, BLOCK + i)]
_HIGH_HALVES = [lane + BLOCK // 2 for lane in _LOW_HALVES]


def _start(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Address of the array's first byte."""
    return create_struct_proxy(kind)(context, builder, value=array).data


def _at(builder: Any, start: Any, offset: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def move_word(_: Any, source: Any, offset: Any, out: Any, out_offset: Any) -> Any:
    """out[out_offset : out_offset + 8] = source[offset : offset + 8], counted in flat bytes."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        word = ir.IntType(8 * WORD_BYTES)
        read = _at(builder, _start(context, builder, signature.args[0], given[0]), given[1], word)
        written = _at(builder, _start(context, builder, signature.args[2], given[2]), given[3], word)
        builder.store(builder.load(read, align=1), written, align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, out, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def fused(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a x b + c of single precision, rounded once."""

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.fma(*given)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def transpose_block(_: Any, source: Any, offset: Any, step: Any, out: Any, out_offset: Any, out_step: Any) -> Any:
    """Sixteen rows of sixteen bytes become sixteen columns.

    Byte c of row r lies at offset + r x step in `source` and comes to out_offset + c x out_step + r in `out`, counted
    in flat bytes. Four rounds of interleaving each row with the one eight further transpose them: a byte's row number
    moves, bit by bit, into its place in the row.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector, lanes = ir.VectorType(_BYTE, BLOCK), ir.VectorType(ir.IntType(32), BLOCK)
        halves = [ir.Constant(lanes, half) for half in (_LOW_HALVES, _HIGH_HALVES)]
        read = _start(context, builder, signature.args[0], given[0])
        written = _start(context, builder, signature.args[3], given[3])

        def place(first: Any, row: int, size: Any) -> Any:
            return builder.add(first, builder.mul(size, ir.Constant(size.type, row)))

        rows = [builder.load(_at(builder, read, place(given[1], r, given[2]), vector), align=1) for r in range(BLOCK)]
        for _ in range(BLOCK.bit_length() - 1):
            pairs = zip(rows[: BLOCK // 2], rows[BLOCK // 2 :], strict=True)
            rows = [builder.shuffle_vector(near, far, half) for near, far in pairs for half in halves]
        for c, row in enumerate(rows):
            builder.store(row, _at(builder, written, place(given[4], c, given[5]), vector), align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, out, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def load_pixel(_: Any, source: Any, offset: Any) -> Any:
    """source[offset : offset + 4] as four lanes in an int64, counted in flat bytes. The first byte is the lowest."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        start = _start(context, builder, signature.args[0], given[0])
        pixel = builder.load(_at(builder, start, given[1], _PIXEL), align=1)
        return builder.bitcast(builder.zext(pixel, _LANES), ir.IntType(64))

    return types.int64(source, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_pixel(_: Any, out: Any, offset: Any, lanes: Any) -> Any:
    """out[offset : offset + 3] = the low bytes of the first three lanes."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        start, short, word = _start(context, builder, signature.args[0], given[0]), ir.IntType(16), ir.IntType(32)
        pixel = builder.bitcast(builder.trunc(builder.bitcast(given[2], _LANES), _PIXEL), word)
        third = builder.add(given[1], ir.Constant(given[1].type, 2))
        builder.store(builder.trunc(pixel, short), _at(builder, start, given[1], short), align=1)
        last = builder.trunc(builder.lshr(pixel, ir.Constant(word, 16)), _BYTE)
        builder.store(last, _at(builder, start, third, _BYTE), align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def paeth(_: Any, left: Any, above: Any, corner: Any) -> Any:
    """In each of four lanes, the neighbour nearest to left + above - corner (ISO/IEC 15948, 9.4).

    Of two equally near ones it is the left one, then the one above. Which is nearest is decided by two comparisons of
    3 x corner - above - left, as in stb_image: the larger one of left and above if the sum is at most the smaller one,
    the smaller one if the sum is at least the larger one, else the corner.
    """

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        left, above, corner = (builder.bitcast(lanes, _LANES) for lanes in given)
        tripled = builder.mul(corner, ir.Constant(_LANES, [3] * PIXEL_BYTES))
        bound = builder.sub(builder.sub(tripled, above), left)
        less = builder.icmp_signed("<", left, above)
        low, high = builder.select(less, left, above), builder.select(less, above, left)
        nearest = builder.select(builder.icmp_signed("<=", high, bound), low, corner)
        nearest = builder.select(builder.icmp_signed("<=", bound, low), high, nearest)
        return builder.bitcast(nearest, ir.IntType(64))

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def stream_part(_: Any, source: Any, offset: Any, out: Any, out_offset: Any) -> Any:
    """out[out_offset : out_offset + 16] = source[offset : offset + 16], past the caches, counted in flat bytes.

    The address in `out` must be a multiple of 16. Other processors see the bytes in any order until `fence`.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector = ir.VectorType(_BYTE, LINE_PART_BYTES)
        read = _at(builder, _start(context, builder, signature.args[0], given[0]), given[1], vector)
        written = _at(builder, _start(context, builder, signature.args[2], given[2]), given[3], vector)
        stored = builder.store(builder.load(read, align=1), written, align=LINE_PART_BYTES)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(source, types.int64, out, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def fence(_: Any) -> Any:
    """Whoever hears of it later, in any process, sees all that was written before."""

    def generate(context: Any, builder: Any, _: Any, __: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
