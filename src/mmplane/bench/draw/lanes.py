"""Timelines of processes: one lane per process, in panels that each have a time axis."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mmplane.bench.draw.svg import CHARACTER_PX, document, legend, rect, rule, text, ticks

WIDTH = 960
TOP, BOTTOM, GAP = 66, 30, 34
BAR = 7
"""Height of one bar in pixels. A lane grows if bars overlap."""
PADDING = 8
ALIKE_MS = 10.0
"""Tasks that start nearly together are ordered by their second key."""
SLACK_MS = 1.0
"""Times are rounded: a bar may start this much too early and still fit into the same row."""


class Bar(msgspec.Struct, frozen=True):
    """An activity of a lane: when it starts and how many milliseconds it takes. Bars of one `task` share a row."""

    lane: str
    task: int
    kind: str
    begin_ms: float
    long_ms: float
    said: str = ""


class Panel(msgspec.Struct, frozen=True):
    """A time axis from 0 to `end_ms`, with its bars."""

    title: str
    end_ms: float
    bars: Sequence[Bar]


def lanes(title: str, names: Sequence[str], panels: Sequence[Panel], colours: dict[str, str]) -> str:
    """Draw the chart: one row of lanes for all panels, in the order of `names`."""
    packed = [{name: stacked([bar for bar in panel.bars if bar.lane == name]) for name in names} for panel in panels]
    deep = {name: max(1, *(len(panel[name]) for panel in packed)) for name in names}
    tops, y = {}, float(TOP)
    for name in names:
        tops[name] = y
        y += deep[name] * BAR + PADDING
    left = 20 + max(map(len, names)) * CHARACTER_PX
    each = (WIDTH - left - GAP * len(panels)) / len(panels)
    kinds = [(kind, colour) for kind, colour in colours.items() if _drawn(panels, kind)]
    shapes = [text(16, 24, title, "ink title"), *legend(left, 42, kinds)]
    shapes += [text(left - 8, tops[name] + deep[name] * BAR / 2 + 4, name, "ink", "end") for name in names]
    for index, panel in enumerate(panels):
        x = left + index * (each + GAP)
        shapes += _axis(panel, x, each, y)
        for name in names:
            for row, bars in enumerate(packed[index][name]):
                shapes += [_bar(bar, x, each / panel.end_ms, tops[name] + row * BAR, colours) for bar in bars]
    return document(WIDTH, y + BOTTOM, title, shapes)


def stacked(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Assign tasks that do not overlap to rows, in order of their start; each task takes the first free row."""
    tasks: dict[int, list[Bar]] = {}
    for bar in sorted(bars, key=lambda bar: bar.begin_ms):
        tasks.setdefault(bar.task, []).append(bar)
    rows: list[list[Bar]] = []
    for task in sorted(tasks.values(), key=lambda task: [round(bar.begin_ms / ALIKE_MS) for bar in task]):
        row = next((row for row in rows if _end_ms(row) <= task[0].begin_ms + SLACK_MS), None)
        if row is None:
            rows.append(task)
        else:
            row += task
    return rows


def _end_ms(bars: Sequence[Bar]) -> float:
    return max(bar.begin_ms + bar.long_ms for bar in bars)


def _drawn(panels: Sequence[Panel], kind: str) -> bool:
    return any(bar.kind == kind for panel in panels for bar in panel.bars)


def _bar(bar: Bar, x: float, scale: float, y: float, colours: dict[str, str]) -> str:
    return rect(x + bar.begin_ms * scale, y, bar.long_ms * scale, BAR - 1, colours[bar.kind], bar.said)


def _axis(panel: Panel, x: float, width: float, bottom: float) -> list[str]:
    shapes = [text(x, TOP - 6, panel.title, "ink strong")]
    for mark in ticks(panel.end_ms, 4):
        at = x + mark * width / panel.end_ms
        if mark <= panel.end_ms:
            shapes += [rule(at, TOP, at, bottom), text(at, bottom + 15, f"{mark:g}", "soft", "middle")]
    return [*shapes, text(x + width, bottom + 27, "ms", "soft", "end")]
