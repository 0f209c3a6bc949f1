"""SVG as text: shapes by their corner and size in pixels, and a document around them.

Colours of text, grid and background follow the reader's colour scheme through a media query, so a file looks right in a
page, in an `<img>` and by itself. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log10

TEXT_PX = 12
CHARACTER_PX = 6.6
"""Average width of a character in a sans-serif font of `TEXT_PX`, rounded up so that texts do not overlap."""
STYLE = """
svg { color-scheme: light dark; font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
.ground { fill: #ffffff; } .ink { fill: #1b1f24; } .soft { fill: #5b6470; } .grid { stroke: #d0d7de; }
.strong { font-weight: 600; } .title { font-size: 15px; font-weight: 600; }
.edge { stroke: #ffffff; stroke-width: 0.5; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; } .ink { fill: #e6edf3; } .soft { fill: #9aa5b1; } .grid { stroke: #30363d; }
  .edge { stroke: #0d1117; }
}
"""


def document(width: float, height: float, title: str, shapes: Sequence[str]) -> str:
    """Return a whole file. Screen readers read `title`."""
    size = f'width="{_px(width)}" height="{_px(height)}" viewBox="0 0 {_px(width)} {_px(height)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", ground, *shapes, "</svg>\n"])


def rect(x: float, y: float, width: float, height: float, colour: str, said: str = "") -> str:
    """Return a filled bar. `said` is shown when the pointer is over it."""
    told = f"<title>{escape(said)}</title>" if said else ""
    size = f'x="{_px(x)}" y="{_px(y)}" width="{_px(max(width, 0.5))}" height="{_px(height)}"'
    return f'<rect class="edge" {size} fill="{colour}">{told}</rect>'


def text(x: float, y: float, content: str, kind: str = "ink", anchor: str = "start") -> str:
    """Return a line of text with its baseline at `y`. `kind` is a class of `STYLE`, `anchor` start, middle or end."""
    where = f'x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(content)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line of the grid."""
    return f'<line class="grid" x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}"/>'


def path(points: Sequence[tuple[float, float]], colour: str) -> str:
    """Return a line through points, with a dot at each."""
    drawn = " ".join(f"{_px(x)},{_px(y)}" for x, y in points)
    dots = "".join(f'<circle cx="{_px(x)}" cy="{_px(y)}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{drawn}"/>{dots}'


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return the legend, names and colours in one line starting at `x`."""
    shapes = []
    for name, colour in entries:
        shapes += [rect(x, y - 9, 10, 10, colour), text(x + 14, y, name, "soft")]
        x += 14 + len(name) * CHARACTER_PX + 14
    return shapes


def ticks(most: float, count: int = 4) -> list[float]:
    """Return round numbers from 0 to at least `most`, at most `count` + 2 of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    unit = 10.0 ** floor(log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)
    last = int(-(-most // step))
    return [step * index for index in range(last + 1)]


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
