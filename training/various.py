"""Numbers of 1 to 8 digits in many fonts, widths, spacings, slants, sizes, colours and surroundings: for training."""

from __future__ import annotations

import math
from functools import partial

from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from training.fonts import FONTS, load_font
from training.lines import Box, Line, Style, set_line
from training.pictures import Colour, Picture, Variety, contrasting, draw_ground, through_jpeg

CANVASES = (
    (112, 56), (112, 112), (140, 56), (168, 56), (168, 140), (196, 84), (196, 140), (224, 56), (224, 140),
    (224, 196), (252, 84), (252, 112), (252, 224), (280, 84), (280, 140), (280, 252), (308, 56), (308, 168),
    (308, 224), (336, 84), (336, 140), (336, 196), (364, 112), (364, 140), (364, 252), (392, 84), (392, 196),
)  # fmt: skip
"""Sizes in pixels (width, height), multiples of 28."""
LENGTHS = (1, 8)

_VARIETY = Variety(textured=0.25, jpeg=0.3, qualities=(45, 95))
_MARGIN_PX = 3
_ADVANCE_PX = 14
_HEIGHT_PX = 18
_LARGEST_PX = 260
_CONTRAST = 65


def most_digits(size: tuple[int, int]) -> int:
    """How many digits are legible side by side on a canvas."""
    return max(1, min(LENGTHS[1], (size[0] - 2 * _MARGIN_PX) // 20))


def various_picture(rng: Generator, number: str, size: tuple[int, int]) -> Picture:
    """A picture of `size` (width, height) that shows `number` on one line."""
    room = (size[0] - 2 * _MARGIN_PX, size[1] - 2 * _MARGIN_PX)
    style = _style(rng)
    line = set_line(number, style, _font_size(rng, number, style, room), room)
    left = int(rng.integers(_MARGIN_PX, size[0] - _MARGIN_PX - line.mask.width + 1))
    top = int(rng.integers(_MARGIN_PX, size[1] - _MARGIN_PX - line.mask.height + 1))
    image, ink = _surroundings(rng, size, (left, top, left + line.mask.width, top + line.mask.height))
    image.paste(ink, (left, top), line.mask)
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    return Picture(through_jpeg(rng, image, _VARIETY), number, _marks(line, number, left, top))


def _style(rng: Generator) -> Style:
    stretched, spaced, slanted = rng.random(3)
    return Style(
        partial(load_font, int(rng.integers(len(FONTS)))),
        spacing=float(rng.uniform(-0.02, 0.1) if spaced < 0.5 else rng.uniform(0.0, 0.5)) if spaced < 0.75 else 0.0,
        stretch=math.exp(float(rng.uniform(math.log(0.75), math.log(1.6)))) if stretched < 0.6 else 1.0,
        slant=float(rng.uniform(-0.25, 0.15)) if slanted < 0.15 else 0.0,
        tilt=float(rng.uniform(-0.05, 0.05)) if slanted < 0.15 else 0.0,
    )


def _font_size(rng: Generator, number: str, style: Style, room: tuple[int, int]) -> int:
    """Between the smallest that is legible and the largest that fits, every size or every scale is as likely."""
    largest = max(8.0, min(_LARGEST_PX, style.fitting_size(number, room)))
    legible = max(_ADVANCE_PX / min(style.advances(number, 1)), _HEIGHT_PX / 0.7)
    smallest = min(largest, legible)
    if rng.random() < 0.5:  # large digits are harder: more tokens show a part of each
        return int(rng.uniform(smallest, largest))
    return int(math.exp(float(rng.uniform(math.log(smallest), math.log(largest)))))


def _marks(line: Line, number: str, left: int, top: int) -> tuple[tuple[float, float, int], ...]:
    return tuple((left + x, top + y, int(digit)) for (x, y), digit in zip(line.centres, number, strict=True))


def _surroundings(rng: Generator, size: tuple[int, int], box: Box) -> tuple[Image.Image, Colour]:
    """What lies behind and beside the digits in `box`, and a colour for them."""
    behind, ink = _colours(rng)
    kind = rng.random()
    if kind < 0.2:
        image = draw_ground(rng, size, _any_colour(rng), _VARIETY)
        plate = _around(rng, box, 3, 28)
        panel = draw_ground(rng, (plate[2] - plate[0], plate[3] - plate[1]), behind, _VARIETY)
        image.paste(panel, plate[:2])
        return image, ink
    image = draw_ground(rng, size, behind, _VARIETY)
    pen = ImageDraw.Draw(image)
    if kind < 0.28:
        pen.rectangle(_around(rng, box, 4, 28), outline=_any_colour(rng), width=int(rng.integers(1, 5)))
    elif kind < 0.38:
        for _ in range(int(rng.integers(1, 4))):
            _stroke(rng, pen, size, box)
    return image, ink


def _stroke(rng: Generator, pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Box) -> None:
    """A line beside the digits, upright or level."""
    upright = int(rng.random() < 0.3)
    low, high = box[1 - upright] - 4, box[3 - upright] + 4
    at = int(rng.integers(-8, max(-7, low))) if rng.random() < 0.5 else int(rng.integers(high, high + 40))
    ends = sorted(rng.integers(0, size[upright], 2).tolist())
    line = [(at, ends[0]), (at, ends[1])] if upright else [(ends[0], at), (ends[1], at)]
    pen.line(line, fill=_any_colour(rng), width=int(rng.integers(1, 4)))


def _around(rng: Generator, box: Box, least: int, most: int) -> Box:
    left, top, right, bottom = (int(value) for value in rng.integers(least, most, 4))
    return box[0] - left, box[1] - top, box[2] + right, box[3] + bottom


def _any_colour(rng: Generator) -> Colour:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _colours(rng: Generator) -> tuple[Colour, Colour]:
    """Ground and ink; in a third of the pictures nearly black and nearly white."""
    if rng.random() < 0.67:
        return contrasting(rng, _CONTRAST)
    dark, light = (_grey_near(rng, 0, 60), _grey_near(rng, 190, 256))
    return (light, dark) if rng.random() < 0.7 else (dark, light)


def _grey_near(rng: Generator, low: int, high: int) -> Colour:
    """A colour close to a grey between two brightnesses."""
    grey = int(rng.integers(low, high))
    red, green, blue = (int(min(255, max(0, grey + step))) for step in rng.integers(-8, 9, 3))
    return red, green, blue
