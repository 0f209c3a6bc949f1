from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmplane.features.arithmetic.resize import FILTERS, Box, Resize
from mmplane.features.contract.image import Pixels

SIDES = st.integers(1, 240)
NOISE = np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8)


def resized(pixels: Pixels, resize: Resize, rows: int) -> Pixels:
    box = resize.box
    out = np.zeros((3, box.bottom - box.top, box.right - box.left), np.uint8)
    for y, planes in resize.bands(pixels, rows):
        out[:, y : y + planes.shape[1]] = planes
    return out.transpose(1, 2, 0)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(sorted(FILTERS)), st.integers(1, 100), st.data())
def test_any_box_of_any_resize_has_pillows_pixels(
    width: int, height: int, new_width: int, new_height: int, kind: int, rows: int, data: st.DataObject
) -> None:
    pixels = np.ascontiguousarray(NOISE[:height, :width])
    left, right = sorted(data.draw(st.tuples(st.integers(0, new_width), st.integers(0, new_width))))
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, new_height), st.integers(0, new_height))))
    expected = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), kind))
    ours = resized(pixels, Resize(new_width, new_height, kind, Box(left, top, right, bottom)), rows)
    np.testing.assert_array_equal(ours, expected[top:bottom, left:right], strict=True)


@pytest.mark.parametrize("kind", sorted(FILTERS))
@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((240, 200), (200, 200)),  # across only
        ((240, 200), (240, 100)),  # down only
        ((240, 200), (240, 200)),  # neither
        ((240, 200), (230, 40)),  # down first
        ((240, 200), (40, 190)),  # across first
        ((1, 240), (1, 7)),
        ((240, 1), (1, 1)),
        ((1, 1), (300, 200)),
    ],
)
def test_every_order_of_passes(kind: int, size: tuple[int, int], new_size: tuple[int, int]) -> None:
    pixels = np.ascontiguousarray(NOISE[: size[1], : size[0]])
    expected = np.asarray(Image.fromarray(pixels).resize(new_size, kind))
    np.testing.assert_array_equal(resized(pixels, Resize.whole(*new_size, kind), 16), expected, strict=True)


def test_extreme_contrast_is_clipped_like_pillow() -> None:
    pixels = np.where(NOISE > 127, np.uint8(255), np.uint8(0))
    for kind in sorted(FILTERS):
        expected = np.asarray(Image.fromarray(pixels).resize((333, 101), kind))
        np.testing.assert_array_equal(resized(pixels, Resize.whole(333, 101, kind), 64), expected)


def test_read_only_pixels_will_do() -> None:
    pixels = NOISE[:50, :60].copy()
    pixels.flags.writeable = False
    assert resized(pixels, Resize.whole(30, 20, 3), 8).shape == (20, 30, 3)
