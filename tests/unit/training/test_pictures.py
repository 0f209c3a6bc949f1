"""Synthetic pictures: the same from the same generator, within their frame, with marks on the symbols."""

from __future__ import annotations

import numpy
import pytest
from numpy.random import default_rng
from training.fonts import FONTS, load_font
from training.pictures import NO_SYMBOL, Variety, draw_digits, is_held_out, jpeg, number_picture, shape_picture

PLAIN = Variety(fonts=1, textured=0, jpeg=0)


@pytest.mark.parametrize("index", range(len(FONTS)))
def test_every_font_draws_ten_different_digits(index: int) -> None:
    masks = {bytes(load_font(index, 40).getmask(str(digit))) for digit in range(10)}
    assert len(masks) == 10


def test_the_same_generator_gives_the_same_picture() -> None:
    first, second = (number_picture(default_rng(3), "4821", (224, 112), Variety()) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.marks == second.marks


@pytest.mark.parametrize("seed", range(8))
def test_digits_lie_inside_and_marks_lie_on_ink(seed: int) -> None:
    picture = number_picture(default_rng(seed), "888888", (224, 112), PLAIN)
    pixels = numpy.asarray(picture.image).astype(int)
    inked = numpy.abs(pixels - pixels[0, 0]).sum(2) > 30
    for edge in (inked[0], inked[-1], inked[:, 0], inked[:, -1]):
        assert not edge.any()
    for x, y, kind in picture.marks:
        assert kind == 8
        assert inked[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].any()


def test_held_out_numbers_are_never_drawn_for_training() -> None:
    rng = default_rng(0)
    assert not any(is_held_out(draw_digits(rng, held_out=False)) for _ in range(200))
    assert all(is_held_out(draw_digits(rng, held_out=True)) for _ in range(50))


def test_numbers_have_four_to_six_digits() -> None:
    rng = default_rng(0)
    assert {len(draw_digits(rng, held_out=False)) for _ in range(100)} == {4, 5, 6}


def test_a_shape_is_marked_and_named() -> None:
    picture = shape_picture(default_rng(1), (224, 112), PLAIN)
    assert len(picture.answer.split()) == 2
    ((x, y, kind),) = picture.marks
    assert 0 < x < 224
    assert 0 < y < 112
    assert 10 <= kind < NO_SYMBOL


def test_jpeg_keeps_size_and_changes_pixels() -> None:
    image = number_picture(default_rng(1), "4821", (224, 112), Variety(textured=1, jpeg=0)).image
    again = jpeg(image, 60)
    assert again.size == image.size
    assert again.tobytes() != image.tobytes()


def test_digits_repeat_where_it_is_asked() -> None:
    rng = default_rng(0)
    shares = {
        repeated: sum(
            any(map(str.__eq__, number, number[1:]))
            for number in (draw_digits(rng, held_out=False, repeated=repeated) for _ in range(200))
        )
        for repeated in (0.0, 1.0)
    }
    assert shares[1.0] > 195
    assert shares[0.0] < 120
