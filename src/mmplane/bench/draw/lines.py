"""Line charts over one quantity, with logarithmic or linear axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

import msgspec

from mmplane.bench.draw.bars import digits
from mmplane.bench.draw.svg import document, path, rect, rule, text, ticks

WIDTH, HEIGHT = 960, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 50
LABEL = 15
"""Minimum distance in pixels between two names at the right edge."""


class Line(msgspec.Struct, frozen=True):
    """A name, a colour and points with ascending x."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def lines(title: str, x_title: str, y_title: str, drawn: Sequence[Line], *, logarithmic: bool = False) -> str:
    """Draw the chart. The x axis has equidistant marks at exactly the x values of the points."""
    xs = sorted({x for line in drawn for x, _ in line.points})
    ys = [y for line in drawn for _, y in line.points]
    marks, place = _axis(ys, logarithmic=logarithmic)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(xs) - 1)
    across = {x: LEFT + step * at for at, x in enumerate(xs)}
    shapes = [text(16, 26, title, "ink title"), text(LEFT - 8, TOP - 8, y_title, "soft", "start")]
    for mark in marks:
        shapes += [rule(LEFT, place(mark), WIDTH - RIGHT, place(mark))]
        shapes += [text(LEFT - 8, place(mark) + 4, digits(mark), "soft", "end")]
    for x, at in across.items():
        shapes += [text(at, HEIGHT - BOTTOM + 18, digits(x), "soft", "middle")]
    shapes.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "soft", "middle"))
    shapes += [path([(across[x], place(y)) for x, y in line.points], line.colour) for line in drawn]
    return document(WIDTH, HEIGHT, title, shapes + _names(drawn, place))


def _axis(values: Sequence[float], *, logarithmic: bool) -> tuple[list[float], Callable[[float], float]]:
    """Return the marks of the y axis, and a function that maps a value to its position."""
    if logarithmic:
        low, high = floor(log10(min(values))), ceil(log10(max(values)))
        marks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
    else:
        marks = ticks(max(values))

    def place(value: float) -> float:
        if logarithmic:
            share = (log10(value) - log10(marks[0])) / (log10(marks[-1]) - log10(marks[0]))
        else:
            share = value / marks[-1]
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    return marks, place


def _names(drawn: Sequence[Line], place: Callable[[float], float]) -> list[str]:
    """Place each name at the right end of its line, and move it down if it would cover another."""
    shapes, lowest = [], 0.0
    for line in sorted(drawn, key=lambda line: place(line.points[-1][1])):
        lowest = max(place(line.points[-1][1]), lowest + LABEL)
        shapes += [rect(WIDTH - RIGHT + 12, lowest - 5, 10, 10, line.colour)]
        shapes += [text(WIDTH - RIGHT + 27, lowest + 4, line.name)]
    return shapes
