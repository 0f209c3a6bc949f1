from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.extending import intrinsic

from mmplane.features.arithmetic import intrinsics, scanlines
from mmplane.features.arithmetic.intrinsics import PIXEL_BYTES
from mmplane.features.arithmetic.scanlines import PAETH, Scanlines, undo_filters
from mutation import Mutant, check_it_is_killed, mutated
from odd_pictures import filtered, paeth

BEYOND = 171
"""What lies behind the buffer, and stays there."""
EACH_LANE = 0x0001_0001_0001_0001


def undone(pixels: np.ndarray, filters: list[int], undo: Callable[..., bool] = undo_filters) -> np.ndarray | None:
    """The pixels, filtered and back; None if the filters are refused."""
    height, width, channels = pixels.shape
    row_bytes, rows = width * channels, filtered(pixels, filters)
    whole = np.full(buffer_bytes(height, row_bytes) + 16, BEYOND, np.uint8)
    whole[:row_bytes] = 0
    whole[2 * row_bytes : 2 * row_bytes + len(rows)] = np.frombuffer(rows, np.uint8)
    known = undo(whole[:-16], height, row_bytes, channels)
    assert (whole[-16 - PIXEL_BYTES :] == BEYOND).all()
    assert not whole[:row_bytes].any()
    return whole[row_bytes : row_bytes * (1 + height)].reshape(pixels.shape) if known else None


def buffer_bytes(height: int, row_bytes: int) -> int:
    """What `undo_filters` needs."""
    return 2 * row_bytes + height * (1 + row_bytes) + PIXEL_BYTES


def noise(height: int, width: int, channels: int, levels: int = 256, seed: int = 0) -> np.ndarray:
    """Few levels have many ties."""
    step = 255 // (levels - 1)
    return np.random.default_rng(seed).integers(0, levels, (height, width, channels)).astype(np.uint8) * np.uint8(step)


@pytest.mark.parametrize("each", range(5))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (1, 70), (70, 1), (2, 2), (9, 33), (40, 64)])
def test_every_filter_is_undone(each: int, channels: int, height: int, width: int) -> None:
    for levels in (2, 4, 256):
        pixels = noise(height, width, channels, levels)
        np.testing.assert_array_equal(undone(pixels, [each] * height), pixels, strict=True)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.integers(1, 40),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([2, 3, 6, 256]),
    st.integers(0, 99),
)
def test_filters_are_undone_in_any_order(filters: list[int], width: int, channels: int, levels: int, seed: int) -> None:
    pixels = noise(len(filters), width, channels, levels, seed)
    np.testing.assert_array_equal(undone(pixels, filters), pixels, strict=True)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("unknown", [5, 6, 127, 128, 255])
@pytest.mark.parametrize("row", [0, 1, 4])
def test_an_unknown_filter_is_refused(channels: int, unknown: int, row: int) -> None:
    filters = [PAETH] * 5
    filters[row] = unknown
    assert undone(noise(5, 7, channels), filters) is None


def test_a_buffer_that_is_too_short_is_refused() -> None:
    for height, row_bytes, channels in ((4, 9, 3), (4, 9, 1), (1, 3, 3), (4, 8, 4)):
        with pytest.raises(AssertionError):
            undo_filters(np.zeros(buffer_bytes(height, row_bytes) - 1, np.uint8), height, row_bytes, channels)


@pytest.mark.parametrize(("row_bytes", "channels"), [(10, 3), (8, 2), (9, 4), (10, 5)])
def test_pixels_of_another_size_are_refused(row_bytes: int, channels: int) -> None:
    with pytest.raises(AssertionError):
        undo_filters(np.zeros(1000, np.uint8), 4, row_bytes, channels)


def test_nothing_compiles_for_a_picture() -> None:
    for channels in (1, 3, 4):
        undone(noise(2, 2, channels), [PAETH, PAETH])
    assert len(undo_filters.signatures) == 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="No matching definition"):
        undo_filters(np.zeros(100, np.int16), 1, 3, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_become_pixels_in_the_same_memory(channels: int) -> None:
    pixels = noise(6, 5, channels)
    lines = Scanlines(*pixels.shape)
    lines.filtered[:] = filtered(pixels, [4, 4, 4, 2, 3, 4])
    found = lines.pixels()
    np.testing.assert_array_equal(found, pixels, strict=True)
    assert found is not None
    assert found.flags.c_contiguous
    assert np.shares_memory(found, np.frombuffer(lines.filtered, np.uint8))
    lines.filtered[:] = filtered(pixels, [4, 5, 4, 2, 3, 4])
    assert lines.pixels() is None


def test_the_nearest_neighbour_is_the_standards() -> None:
    """Of all ties, and at both ends."""
    own = intrinsic(inspect.unwrap(intrinsics.paeth))
    run = numba.njit(lambda left, above, corner: own(left, above, corner))
    levels = np.array([*range(24), *range(236, 256)], np.int16)
    every = np.meshgrid(levels, levels, levels)
    for left, above, corner, nearest in zip(*(each.ravel().tolist() for each in (*every, paeth(*every))), strict=True):
        assert run(left * EACH_LANE, above * EACH_LANE, corner * EACH_LANE) == nearest * EACH_LANE


def test_what_the_source_says_is_undone() -> None:
    """Compiled anew, so that it is a mutant's source, too."""
    undo = numba.njit(lambda buffer, height, row_bytes, _: scanlines._undo(buffer, height, row_bytes, 3))
    pixels, filters = noise(9, 8, 3), [4, 3, 2, 1, 0, 4, 4, 4, 3]
    np.testing.assert_array_equal(undone(pixels, filters, undo), pixels)
    assert undone(pixels, [9] * 9, undo) is None


@pytest.mark.parametrize(
    ("function", "piece", "instead"),
    [
        (scanlines._undo, "return False", "pass"),
        (scanlines._undo_one, "corner = above", "corner = left"),
        (scanlines._undo_two, "lower_corner = left", "lower_corner = lower_left"),
        (scanlines._undo_two, "if x > 0", "if x > channels"),
        (scanlines._pixel, "(left + above) >> 1", "(left + above + 1) >> 1"),
    ],
)
def test_that_test_kills(function: Any, piece: str, instead: str) -> None:
    with mutated(function, piece, instead), pytest.raises(AssertionError):
        test_what_the_source_says_is_undone()


@pytest.mark.parametrize("ties", ['"<=", high, bound', '"<=", bound, low'])
def test_ties_are_killed(ties: str, request: pytest.FixtureRequest) -> None:
    killer = test_the_nearest_neighbour_is_the_standards
    check_it_is_killed(Mutant("ties", intrinsics.paeth, ties, ties.replace("<=", "<"), killer), request)
