"""The charts of the results page as SVG. Pure.

Each delivery, and each role, has the same colour in all charts and in the report's plots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmplane.bench.draw.bars import Panel, bars
from mmplane.bench.draw.lines import Line, lines
from mmplane.bench.judge.groups import Row
from mmplane.bench.report.columns import in_order
from mmplane.bench.report.plots import ROLES, colour, named

SIMULATED = "simulated decoding"
PARTS = {"frontend": "front end", "parser": "parser", "worker": "workers", "rank": "ranks"}
PART_COLOURS = {name: ROLES.get(role, "#17becf") for role, name in PARTS.items()} | {SIMULATED: "#c7a76c"}
Figure = Callable[[Row], float | None]


def designs(title: str, rows: Sequence[Row]) -> str:
    """Draw the rate, latency, CPU by role and stall of each delivery, side by side."""
    ordered = in_order(rows)
    costs = [_cpu(row) for row in ordered]
    drawn = {part for bar in costs if bar for part, value in bar if value > 0}
    parts = [(name, part) for name, part in PART_COLOURS.items() if part in drawn]
    panels = [
        Panel("requests per second", [_bar(row, lambda row: row["qps"]) for row in ordered]),
        Panel("mean latency, ms", [_bar(row, lambda row: row["latency_ms"]["mean"]) for row in ordered]),
        Panel("CPU per request, ms", costs, parts),
        Panel("stall of a rank, p99, ms", [_bar(row, lambda row: row["loop_stall_ms"]["p99"]) for row in ordered]),
    ]
    return bars(title, [named(row) for row in ordered], panels)


def over(title: str, x: tuple[str, Figure], y: tuple[str, Figure], rows: Sequence[Row], *, logarithmic: bool) -> str:
    """Draw a line for each delivery. `x` and `y` are the title of the axis and the figure."""
    drawn = []
    for name in dict.fromkeys(named(row) for row in in_order(rows)):
        here = [row for row in rows if named(row) == name]
        points = sorted((a, b) for row in here if (a := x[1](row)) is not None and (b := y[1](row)))
        if points:
            drawn.append(Line(name, colour(here[0]["delivery"]), points))
    return lines(title, x[0], y[0], drawn, logarithmic=logarithmic)


def _bar(row: Row, figure: Figure) -> list[tuple[str, float]] | None:
    return [(colour(row["delivery"]), figure(row) or 0.0)] if row["result"] else None


def _cpu(row: Row) -> list[tuple[str, float]] | None:
    if not row["result"]:
        return None
    seconds = {name: row["cpu_s_per_request"].get(role) or 0.0 for role, name in PARTS.items()}
    seconds[SIMULATED] = row.get("simulated_cpu_s_per_request") or 0.0
    return [(PART_COLOURS[name], value * 1000) for name, value in seconds.items()]
