"""The held-out generator: numbers of 1 to 8 digits in fonts, on canvases and in layouts that training never shows.

Its pictures are for evaluation only. It shares with training how a line of digits is set (`training.lines`), how two
colours with contrast are drawn, and JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy
from numpy.random import Generator
from PIL import Image, ImageDraw

from training.fonts import HELD_OUT_FONTS, load_held_out_font
from training.lines import Box, Line, Style, set_line
from training.pictures import Colour, contrasting, draw_digits, jpeg

CANVASES = ((140, 84), (196, 56), (252, 168), (280, 196), (308, 112), (336, 224), (364, 84))
"""Sizes in pixels (width, height)."""
LENGTHS = (1, 8)

_MARGIN_PX = 10
_APART_PX = 20
_HEIGHT_PX = 22
_CONTRAST = 85


@dataclass(frozen=True)
class HeldOut:
    """A picture, the number that it shows, and how it was made."""

    image: Image.Image
    answer: str
    canvas: tuple[int, int]
    layout: str
    font: str


def held_out_picture(rng: Generator) -> HeldOut:
    """A number in a random font, canvas and layout. Digits are at least 20 pixels apart and 22 high."""
    canvas = CANVASES[int(rng.integers(len(CANVASES)))]
    font = int(rng.integers(len(HELD_OUT_FONTS)))
    style = Style(
        partial(load_held_out_font, font),
        spacing=float(rng.choice([0.0, 0.04, 0.12, 0.25])),
        stretch=float(rng.choice([1.0, 1.0, 0.85, 1.2, 1.4])),
    )
    number, line = _line(rng, style, canvas)
    layout = tuple(LAYOUTS)[int(rng.integers(len(LAYOUTS)))]
    behind, ink = contrasting(rng, _CONTRAST)
    place = _place(rng, canvas, line)
    image = LAYOUTS[layout](rng, canvas, behind, (*place, place[0] + line.mask.width, place[1] + line.mask.height))
    image.paste(ink, place, line.mask)
    if rng.random() < 0.3:
        image = jpeg(image, int(rng.integers(60, 91)))
    return HeldOut(image, number, canvas, layout, HELD_OUT_FONTS[font][1])


def _line(rng: Generator, style: Style, canvas: tuple[int, int]) -> tuple[str, Line]:
    """A number that can be set legibly on the canvas, in a size that fits: every length is as likely."""
    room = (canvas[0] - 2 * _MARGIN_PX, canvas[1] - 2 * _MARGIN_PX)
    wanted = int(rng.integers(LENGTHS[0], LENGTHS[1] + 1))
    while True:
        number = draw_digits(rng, held_out=True, lengths=(wanted, wanted))
        largest = style.fitting_size(number, room)
        smallest = max(_HEIGHT_PX / 0.65, _APART_PX / min(style.advances(number, 1)))
        if smallest <= largest:
            return number, set_line(number, style, int(rng.uniform(smallest, largest)), room)
        wanted = max(LENGTHS[0], wanted - 1)


def _place(rng: Generator, canvas: tuple[int, int], line: Line) -> tuple[int, int]:
    """In the middle, at the left or right edge halfway up, or at the top left."""
    across, down = (canvas[0] - line.mask.width, canvas[1] - line.mask.height)
    places = ((across / 2, down / 2), (_MARGIN_PX, down / 2), (across - _MARGIN_PX, down / 2), (_MARGIN_PX, _MARGIN_PX))
    x, y = places[int(rng.integers(len(places)))]
    return int(x), int(y)


def _plain(_rng: Generator, canvas: tuple[int, int], behind: Colour, _box: Box) -> Image.Image:
    return Image.new("RGB", canvas, behind)


def _card(rng: Generator, canvas: tuple[int, int], behind: Colour, box: Box) -> Image.Image:
    """A card with round corners and a soft edge below the digits."""
    grey = int(rng.integers(60, 200))
    image = Image.new("RGB", canvas, (grey, grey, grey))
    card = (box[0] - 8, box[1] - 8, box[2] + 7, box[3] + 7)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle(tuple(at + 2 for at in card), 6, fill=(grey // 2, grey // 2, grey // 2))
    pen.rounded_rectangle(card, 6, fill=behind)
    return image


def _shaded(_rng: Generator, canvas: tuple[int, int], behind: Colour, _box: Box) -> Image.Image:
    """Lighter in the middle than in the corners."""
    x = numpy.linspace(-1, 1, canvas[0])
    y = numpy.linspace(-1, 1, canvas[1])[:, None]
    shade = 20 - 20 * (x**2 + y**2)
    pixels = numpy.asarray(behind) + shade[:, :, None]
    return Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))


def _ruled(rng: Generator, canvas: tuple[int, int], behind: Colour, _box: Box) -> Image.Image:
    """Faint ruled lines across the whole picture, behind the digits too."""
    image, step = _plain(rng, canvas, behind, _box), int(rng.integers(14, 29))
    faint = tuple(value + 22 if value < 128 else value - 22 for value in behind)
    for y in range(step // 2, canvas[1], step):
        ImageDraw.Draw(image).line(((0, y), (canvas[0], y)), fill=faint)
    return image


def _halves(rng: Generator, canvas: tuple[int, int], behind: Colour, _box: Box) -> Image.Image:
    """Two tones of one colour, with a slanting border between them."""
    image, x = _plain(rng, canvas, behind, _box), int(rng.integers(canvas[0]))
    other = tuple(value + 14 if value < 128 else value - 14 for value in behind)
    lean = int(rng.integers(-60, 61))
    ImageDraw.Draw(image).polygon([(x, 0), (canvas[0], 0), (canvas[0], canvas[1]), (x + lean, canvas[1])], fill=other)
    return image


def _underlined(rng: Generator, canvas: tuple[int, int], behind: Colour, box: Box) -> Image.Image:
    """A rule below the digits, as long as they are."""
    image = _plain(rng, canvas, behind, box)
    grey = int(rng.integers(0, 256))
    ImageDraw.Draw(image).line(((box[0], box[3] + 5), (box[2], box[3] + 5)), fill=(grey, grey, grey), width=2)
    return image


LAYOUTS = {
    "plain": _plain,
    "card": _card,
    "shaded": _shaded,
    "ruled": _ruled,
    "halves": _halves,
    "underlined": _underlined,
}
"""What lies behind the digits, by name."""
