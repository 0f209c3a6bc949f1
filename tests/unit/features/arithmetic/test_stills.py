"""Cutting still pictures: every side, order, number of copies and alignment, beside plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmplane.features.arithmetic import stills
from mmplane.features.arithmetic.table import Levels, pil_levels, torch_levels

SIDES = (8, 9, 14, 16, 27)
OPTIONS = {"rescale_factor": 1 / 255, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}


def picture(side: int, merge: int) -> Any:
    shape = (3, 2 * merge * side, 3 * merge * side)
    return np.random.default_rng(side).integers(0, 256, shape, np.uint8)


def cut(planes: Any, merge: int, side: int, copies: int) -> Any:
    """Plain: (patches, 3, copies, side, side)."""
    rows, columns = planes.shape[1] // (merge * side), planes.shape[2] // (merge * side)
    parts = planes.reshape(3, rows, merge, side, columns, merge, side).transpose(1, 4, 2, 5, 0, 3, 6)
    return np.repeat(parts.reshape(-1, 3, 1, side, side), copies, 2)


def room(like: Any, dtype: Any, skipped: int) -> tuple[Any, Any]:
    """An array as large, `skipped` values after a multiple of 64 bytes, and the whole that it is a part of."""
    whole = np.full(like.size + 64, 77, dtype)
    start = (-whole.ctypes.data) % 64 // whole.itemsize + skipped
    return whole[start : start + like.size].reshape(like.shape), whole


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("merge", [1, 2, 3])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_all_bytes_are_cut_and_nothing_else_is_written(side: int, merge: int, copies: int) -> None:
    planes = picture(side, merge)
    expected = cut(planes, merge, side, copies)
    for skipped in (0, 1, 8, 15):
        out, whole = room(expected, np.uint8, skipped)
        stills.cut_bytes(planes, merge, out)
        np.testing.assert_array_equal(out, expected)
        assert np.count_nonzero(whole == 77) >= 64
        out[...] = 77
        assert (whole == 77).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("merge", "copies"), [(1, 1), (2, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("levels", [torch_levels, pil_levels])
def test_values_are_those_of_the_table(side: int, merge: int, copies: int, levels: Any) -> None:
    planes = picture(side, merge)
    for rescale, normalise in ((True, True), (False, True), (True, False)):
        those: Levels = levels(OPTIONS | {"do_rescale": rescale, "do_normalize": normalise})
        parts = cut(planes, merge, side, copies)
        expected = np.stack([those.table()[c][parts[:, c]] for c in range(3)], 1)
        for skipped in (0, 1, 3):
            out, whole = room(expected, np.float32, skipped)
            stills.cut_values(planes, those.scale, those.mean, those.std, merge, out)
            np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))
            out[...] = 77
            assert (whole == 77).all()


@pytest.mark.parametrize("shape", [(23, 3, 1, 14, 14), (25, 3, 1, 14, 14), (96, 3, 1, 7, 7)])
def test_patches_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    planes = picture(14, 2)
    with pytest.raises(AssertionError):
        stills.cut_bytes(planes, 2, np.zeros(shape, np.uint8))
    with pytest.raises(AssertionError):
        stills.cut_values(planes, 1.0, np.zeros(3, np.float32), np.ones(3, np.float32), 2, np.zeros(shape, np.float32))
