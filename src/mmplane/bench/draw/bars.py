"""Horizontal bars in panels side by side, with the same names in each panel and a different figure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mmplane.bench.draw.svg import CHARACTER_PX, document, legend, rect, rule, text, ticks

WIDTH = 960
ROW = 22
TOP = 74
BOTTOM = 30
GAP = 26
VALUE = 46
"""Space for a figure after the longest bar."""


class Panel(msgspec.Struct, frozen=True):
    """One figure for all names: its title, and for each name the parts of its bar as (colour, value), or None.

    `parts` explains the colours of bars that have several.
    """

    title: str
    bars: Sequence[Sequence[tuple[str, float]] | None]
    parts: Sequence[tuple[str, str]] = ()


def bars(title: str, names: Sequence[str], panels: Sequence[Panel]) -> str:
    """Draw the chart."""
    left = 20 + max(map(len, names), default=0) * CHARACTER_PX
    each = (WIDTH - left - GAP * len(panels)) / len(panels)
    height = TOP + ROW * len(names) + BOTTOM
    shapes = [text(16, 26, title, "ink title")]
    shapes += [text(left - 8, TOP + ROW * at + 15, name, "ink", "end") for at, name in enumerate(names)]
    for index, panel in enumerate(panels):
        shapes += _panel(panel, left + index * (each + GAP), each, TOP + ROW * len(names))
    return document(WIDTH, height, title, shapes)


def _panel(panel: Panel, x: float, width: float, bottom: float) -> list[str]:
    totals = [sum(value for _, value in bar) for bar in panel.bars if bar]
    marks = ticks(max(totals, default=0.0), 3)
    scale = (width - VALUE) / marks[-1]
    shapes = [text(x, TOP - 8, panel.title, "ink strong"), *legend(x, 46, panel.parts)]
    for mark in marks:
        shapes += [rule(x + mark * scale, TOP, x + mark * scale, bottom)]
        shapes += [text(x + mark * scale, bottom + 15, f"{mark:g}", "soft", "middle")]
    for at, bar in enumerate(panel.bars):
        shapes += _bar(bar, x, TOP + ROW * at + 4, scale)
    return shapes


def _bar(bar: Sequence[tuple[str, float]] | None, x: float, y: float, scale: float) -> list[str]:
    if bar is None:
        return [text(x + 4, y + 11, "no result", "soft")]
    shapes = []
    for colour, value in bar:
        if value > 0:
            shapes.append(rect(x, y, value * scale, ROW - 8, colour))
            x += value * scale
    return [*shapes, text(x + 4, y + 11, digits(sum(value for _, value in bar)), "soft")]


def digits(value: float) -> str:
    """Format a figure with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
