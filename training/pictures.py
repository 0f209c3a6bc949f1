"""Synthetic pictures: a number, or one coloured shape, on a plain or textured ground. Same generator, same picture.

A picture comes with its marks: which symbol has its centre at which point. They are the labels of the second loss.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from zlib import crc32

import numpy
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.fonts import load_font

Colour = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS: dict[str, Colour] = {
    "red": (215, 30, 30),
    "green": (30, 150, 50),
    "blue": (35, 70, 220),
    "yellow": (240, 215, 30),
    "purple": (140, 40, 170),
    "orange": (245, 130, 20),
}
DIGIT_CLASSES = 10
NO_SYMBOL = DIGIT_CLASSES + len(SHAPES) * len(COLOURS)
"""The class of a place that holds the centre of no symbol; below it are ten digits, then each shape in each colour."""

_ADVANCE_MIN_PX = 20
_FONT_MAX_PX = 110
_MARGIN_PX = 3
_HELD_OUT_EVERY = 8
_HELD_OUT_DIGITS = 3


@dataclass(frozen=True)
class Variety:
    """How varied the pictures are. The defaults are all that the model is meant to read."""

    fonts: int = 3
    textured: float = 0.1
    """Share of pictures whose ground is not plain."""
    jpeg: float = 0.35
    """Share of pictures that went through JPEG."""
    qualities: tuple[int, int] = (50, 95)
    resized: float = 0.4
    """Share of pictures whose size is no multiple of 28, so that the image processor resizes them."""


@dataclass(frozen=True)
class Picture:
    """An RGB image, the answer to a question about it, and its marks: x, y and class of every symbol."""

    image: Image.Image
    answer: str
    marks: tuple[tuple[float, float, int], ...]


def is_held_out(number: str) -> bool:
    """Whether training never shows this number: one in eight of those of three and more digits, by a checksum."""
    return len(number) >= _HELD_OUT_DIGITS and crc32(number.encode()) % _HELD_OUT_EVERY == 0


def draw_digits(rng: Generator, *, held_out: bool, lengths: tuple[int, int] = (4, 6), repeated: float = 0.0) -> str:
    """A random number as text, leading zeros allowed, from the held-out numbers or from the others.

    Numbers of one or two digits are too few to hold any out.

    In a share of them, `repeated`, one or two digits are made like their neighbours on the left.
    """
    while True:
        length = int(rng.integers(lengths[0], lengths[1] + 1))
        digits = [str(digit) for digit in rng.integers(0, 10, length)]
        if length > 1 and repeated and rng.random() < repeated:
            for at in rng.integers(1, length, int(rng.integers(1, 3))):
                digits[at] = digits[at - 1]
        number = "".join(digits)
        if length < _HELD_OUT_DIGITS or is_held_out(number) == held_out:
            return number


def number_picture(rng: Generator, number: str, size: tuple[int, int], variety: Variety) -> Picture:
    """A picture of `size` (width, height) that shows `number` on one line."""
    ground, ink = contrasting(rng)
    image = draw_ground(rng, size, ground, variety)
    font_index = int(rng.integers(variety.fonts))
    largest = _largest_font(font_index, number, size)
    smallest = min(largest, math.ceil(_ADVANCE_MIN_PX / _advance_em(font_index)))
    font = load_font(font_index, int(rng.integers(smallest, largest + 1)))
    left, top, right, bottom = font.getbbox(number)
    x = float(rng.integers(_MARGIN_PX, max(_MARGIN_PX, size[0] - int(right - left) - _MARGIN_PX) + 1)) - left
    y = float(rng.integers(_MARGIN_PX, max(_MARGIN_PX, size[1] - int(bottom - top) - _MARGIN_PX) + 1)) - top
    ImageDraw.Draw(image).text((x, y), number, fill=ink, font=font)
    edges = [x, *(x + at for at in accumulate(font.getlength(digit) for digit in number))]
    middle = y + (top + bottom) / 2
    marks = tuple(((edges[at] + edges[at + 1]) / 2, middle, int(digit)) for at, digit in enumerate(number))
    return Picture(through_jpeg(rng, image, variety), number, marks)


def shape_picture(rng: Generator, size: tuple[int, int], variety: Variety) -> Picture:
    """A picture of `size` (width, height) of one shape in one of the named colours."""
    colour = int(rng.integers(len(COLOURS)))
    name = tuple(COLOURS)[colour]
    kind = int(rng.integers(len(SHAPES)))
    ink = _jittered(rng, COLOURS[name], 14)
    while True:
        grey = int(rng.integers(0, 256))
        ground = _jittered(rng, (grey, grey, grey), 10)
        if abs(_luminance(ground) - _luminance(ink)) > 50:
            break
    image = draw_ground(rng, size, ground, variety)
    radius = float(rng.uniform(14, min(size) / 2 - _MARGIN_PX))
    x = float(rng.uniform(radius + _MARGIN_PX, size[0] - radius - _MARGIN_PX))
    y = float(rng.uniform(radius + _MARGIN_PX, size[1] - radius - _MARGIN_PX))
    _draw_shape(image, SHAPES[kind], (x, y, radius), ink)
    answer = f"{name} {SHAPES[kind]}"
    return Picture(through_jpeg(rng, image, variety), answer, ((x, y, DIGIT_CLASSES + colour * len(SHAPES) + kind),))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image after one pass through JPEG."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality)
    return Image.open(encoded).convert("RGB")


def _draw_shape(image: Image.Image, kind: str, place: tuple[float, float, float], ink: Colour) -> None:
    """Draw four times as large and shrink the mask, for smooth edges. `place` is x, y and radius."""
    scale = 4
    x, y, radius = (value * scale for value in place)
    mask = Image.new("L", (image.width * scale, image.height * scale))
    pen = ImageDraw.Draw(mask)
    if kind == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        pen.polygon([(x + dx * radius, y + dy * radius) for dx, dy in _OUTLINES[kind]], fill=255)
    image.paste(ink, (0, 0), mask.resize(image.size, Image.Resampling.BOX))


def _star_outline() -> list[tuple[float, float]]:
    angles = [math.pi * step / 5 for step in range(10)]
    return [(math.sin(a) * r, -math.cos(a) * r) for a, r in zip(angles, (1.0, 0.42) * 5, strict=True)]


_ARM = 0.3
_OUTLINES = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0.0, -0.95), (0.95, 0.8), (-0.95, 0.8)],
    "star": _star_outline(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip


@lru_cache
def _advance_em(font_index: int) -> float:
    return float(load_font(font_index, 100).getlength("0")) / 100


def _largest_font(font_index: int, number: str, size: tuple[int, int]) -> int:
    left, top, right, bottom = load_font(font_index, 100).getbbox(number)
    room = (size[0] - 2 * _MARGIN_PX - 2, size[1] - 2 * _MARGIN_PX - 2)
    return int(min(_FONT_MAX_PX, 100 * room[0] / (right - left), 100 * room[1] / (bottom - top)))


def _luminance(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _jittered(rng: Generator, colour: Colour, most: int) -> Colour:
    red, green, blue = (int(min(255, max(0, value + rng.integers(-most, most + 1)))) for value in colour)
    return red, green, blue


def contrasting(rng: Generator, least: float = 85) -> tuple[Colour, Colour]:
    """Two random colours whose luminance differs by more than `least` of 255."""
    while True:
        first, second = rng.integers(0, 256, (2, 3)).tolist()
        if abs(_luminance(first) - _luminance(second)) > least:
            return tuple(first), tuple(second)


def draw_ground(rng: Generator, size: tuple[int, int], colour: Colour, variety: Variety) -> Image.Image:
    """A picture of one colour, or with a mild texture around it."""
    if rng.random() >= variety.textured:
        return Image.new("RGB", size, colour)
    field = _TEXTURES[int(rng.integers(len(_TEXTURES)))](rng, size) * float(rng.uniform(8, 24))
    pixels = numpy.asarray(colour, dtype=numpy.float32) + field[:, :, None]
    return Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))


Field = NDArray[numpy.float32]


def _noise(rng: Generator, size: tuple[int, int]) -> Field:
    return rng.standard_normal((size[1], size[0]), dtype=numpy.float32) * 0.6


def _waves(rng: Generator, size: tuple[int, int]) -> Field:
    """Stripes of a random direction and width; a very wide one is a gradient."""
    angle, period = rng.uniform(0, math.pi), float(rng.choice([9, 17, 33, 65, 400]))
    x, y = numpy.arange(size[0], dtype=numpy.float32), numpy.arange(size[1], dtype=numpy.float32)[:, None]
    phase = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period) + rng.uniform(0, 6)
    return numpy.sin(phase).astype(numpy.float32)


def _clouds(rng: Generator, size: tuple[int, int]) -> Field:
    coarse = rng.standard_normal((int(rng.integers(3, 8)), int(rng.integers(3, 12)))).astype(numpy.float32)
    return numpy.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def _checks(rng: Generator, size: tuple[int, int]) -> Field:
    side = int(rng.integers(5, 30))
    x, y = numpy.arange(size[0]) // side, numpy.arange(size[1])[:, None] // side
    return ((x + y) % 2 * 2 - 1).astype(numpy.float32)


_TEXTURES = (_noise, _waves, _clouds, _checks)


def through_jpeg(rng: Generator, image: Image.Image, variety: Variety) -> Image.Image:
    """The image, in a share of cases after one pass through JPEG."""
    if rng.random() >= variety.jpeg:
        return image
    return jpeg(image, int(rng.integers(variety.qualities[0], variety.qualities[1] + 1)))
