"""A line of digits as a mask that still has to be coloured: any font, letter spacing, width and slant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from training.fonts import Font

_REFERENCE_PX = 100
_Point = tuple[float, float]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Style:
    """How digits are set."""

    font: Callable[[int], Font]
    """The font in a size in pixels."""
    spacing: float = 0.0
    """Space between two digits in addition to the font's own, in parts of the font's size."""
    stretch: float = 1.0
    """How much wider than the font's the glyphs are."""
    slant: float = 0.0
    """Pixels to the right for each pixel downwards."""
    tilt: float = 0.0
    """Pixels downwards for each pixel to the right."""

    def advances(self, number: str, size_px: float) -> list[float]:
        """How far each digit moves the next one, in pixels."""
        font = self.font(_REFERENCE_PX)
        unit = size_px * self.stretch
        return [unit * (font.getlength(digit) / _REFERENCE_PX + self.spacing) for digit in number]

    def fitting_size(self, number: str, room: tuple[int, int]) -> float:
        """The largest font size in which `number` fits into `room` (width, height), but for rounding."""
        top, bottom = self.font(_REFERENCE_PX).getbbox(number)[1::2]
        flat, high = sum(self.advances(number, 1)), (bottom - top) / _REFERENCE_PX
        return min(room[0] / (flat + abs(self.slant) * high), room[1] / (high + abs(self.tilt) * flat))


@dataclass(frozen=True)
class Line:
    """A mask without empty borders, and the centre of each digit in it."""

    mask: Image.Image
    centres: tuple[_Point, ...]


def set_line(number: str, style: Style, size_px: int, room: tuple[int, int]) -> Line:
    """`number` in a style. What is a few pixels larger than `room` is shrunk."""
    flat = _flat(number, style, size_px)
    line = _cropped(_sheared(flat, style.slant, style.tilt) if style.slant or style.tilt else flat)
    shrink = min(1.0, room[0] / line.mask.width, room[1] / line.mask.height)
    return line if shrink == 1.0 else _scaled(line, shrink, shrink)


def _flat(number: str, style: Style, size_px: int) -> Line:
    font, pad = style.font(size_px), size_px // 2
    edges = [float(pad)]
    for digit in number:
        edges.append(edges[-1] + font.getlength(digit) + style.spacing * size_px)
    mask = Image.new("L", (int(edges[-1]) + pad + 1, 2 * size_px))
    pen = ImageDraw.Draw(mask)
    for digit, x in zip(number, edges, strict=False):
        pen.text((x, 1.5 * size_px), digit, fill=255, font=font, anchor="ls")
    _, top, _, bottom = mask.getbbox() or (0, 0, *mask.size)
    centres = _middles(edges, style.spacing * size_px, (top + bottom) / 2)
    line = Line(mask, tuple(centres))
    return line if style.stretch == 1.0 else _scaled(line, style.stretch, 1.0)


def _middles(edges: list[float], spacing_px: float, y: float) -> Iterator[_Point]:
    return (((left + right - spacing_px) / 2, y) for left, right in pairwise(edges))


def _scaled(line: Line, wide: float, high: float) -> Line:
    size = max(1, int(line.mask.width * wide)), max(1, int(line.mask.height * high))
    mask = line.mask.resize(size, Image.Resampling.BICUBIC)
    return Line(mask, tuple((x * wide, y * high) for x, y in line.centres))


def _sheared(line: Line, slant: float, tilt: float) -> Line:
    """Around the mask's middle, on a canvas that holds all of it."""
    width, height = line.mask.size
    size = int(width + abs(slant) * height) + 2, int(height + abs(tilt) * width) + 2
    determinant = 1 - slant * tilt
    inverse = 1 / determinant, -slant / determinant, -tilt / determinant, 1 / determinant
    left, top = size[0] / 2, size[1] / 2
    from_x = width / 2 - inverse[0] * left - inverse[1] * top
    from_y = height / 2 - inverse[2] * left - inverse[3] * top
    matrix = (inverse[0], inverse[1], from_x, inverse[2], inverse[3], from_y)
    mask = line.mask.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    moved = ((x - width / 2, y - height / 2) for x, y in line.centres)
    return Line(mask, tuple((left + x + slant * y, top + y + tilt * x) for x, y in moved))


def _cropped(line: Line) -> Line:
    box = line.mask.getbbox()
    assert box is not None, "a line without ink"
    return Line(line.mask.crop(box), tuple((x - box[0], y - box[1]) for x, y in line.centres))
