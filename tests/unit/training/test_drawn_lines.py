"""A line of digits: complete, inside its room, with a centre on each digit."""

from __future__ import annotations

from functools import partial

import numpy
import pytest
from training.fonts import FONTS, HELD_OUT_FONTS, load_font, load_held_out_font
from training.lines import Style, set_line

WIDE = (4000, 1000)
STYLES = {
    "upright": {},
    "spaced": {"spacing": 0.4},
    "narrow and tight": {"stretch": 0.7, "spacing": -0.05},
    "wide": {"stretch": 1.6},
    "slanted and tilted": {"slant": -0.25, "tilt": 0.05},
}


@pytest.mark.parametrize("options", STYLES.values(), ids=list(STYLES))
def test_centres_lie_on_the_digits_in_order(options: dict[str, float]) -> None:
    style = Style(partial(load_font, 1), **options)
    line = set_line("1111111", style, 60, WIDE)
    ink = numpy.asarray(line.mask) > 128
    assert len(line.centres) == 7
    assert list(line.centres) == sorted(line.centres)
    for x, y in line.centres:
        assert ink[int(y), int(x) - 4 : int(x) + 5].any()
    between = [(left[0] + right[0]) / 2 for left, right in zip(line.centres, line.centres[1:], strict=False)]
    assert not any(ink[int(line.centres[3][1]), int(x)] for x in between)


@pytest.mark.parametrize("options", STYLES.values(), ids=list(STYLES))
@pytest.mark.parametrize("room", [(100, 30), (50, 300), (300, 200)])
def test_a_line_in_its_fitting_size_fills_its_room_and_no_more(
    options: dict[str, float], room: tuple[int, int]
) -> None:
    style = Style(partial(load_font, 2), **options)
    line = set_line("40817", style, int(style.fitting_size("40817", room)), room)
    assert line.mask.width <= room[0]
    assert line.mask.height <= room[1]
    assert line.mask.width > 0.75 * room[0] or line.mask.height > 0.75 * room[1]


@pytest.mark.parametrize("index", range(len(FONTS) + len(HELD_OUT_FONTS)))
def test_no_font_is_cut(index: int) -> None:
    load = load_font if index < len(FONTS) else load_held_out_font
    style = Style(partial(load, index % len(FONTS)))
    ink = numpy.asarray(set_line("0123456789", style, 50, WIDE).mask).astype(int)
    font = style.font(50)
    alone = sum(numpy.asarray(font.getmask(str(digit)), dtype=int).sum() for digit in range(10))
    assert ink.sum() == pytest.approx(alone, rel=0.03)
