"""What a person at a terminal reads when it has run: the rows as tables, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mmplane.bench.report.groups import Row, groups
from mmplane.bench.report.markdown import COLUMNS, TARGET_COLUMNS, cells, target_cells
from mmplane.bench.report.predictions import Verdict
from mmplane.bench.report.targets import Judged


def tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each workload, number of ranks and pace, best rate first."""
    return [_table(title, group) for title, group in groups(rows)]


def verdicts(found: Sequence[Verdict]) -> Table:
    """What the analyses predicted and what was measured; the JSON and the report have the lines that were not."""
    table = Table(title="predicted by the analyses, measured here", title_justify="left")
    for name in ("analysis", "what", "predicted", "measured", "why"):
        table.add_column(name)
    for verdict in found:
        if verdict.agrees is not None:
            why = verdict.why or "as predicted"
            table.add_row(verdict.analysis, verdict.what, verdict.predicted, verdict.measured, why)
    table.caption = f"{sum(verdict.agrees is None for verdict in found)} lines were not measured in this run"
    return table


def judgements(found: Sequence[Judged]) -> Table:
    """What is asked of `arena` and was measured."""
    table = Table(title="asked of arena, measured here", title_justify="left")
    for name in TARGET_COLUMNS:
        table.add_column(name)
    for each in found:
        if each.met is not None:
            table.add_row(*target_cells(each), style=None if each.met else "red")
    return table


def notes(found: dict[str, Any]) -> list[str]:
    """What the tables do not say: what was skipped and why, the transforms, the soak."""
    texts = []
    reasons: dict[str, list[str]] = {}
    for each in found["skipped"]:
        reasons.setdefault(each["why"], []).append(each["delivery"])
    for why, names in reasons.items():
        texts.append(f"not measured: {', '.join(dict.fromkeys(names))}: {why}")
    for each in found["transforms"]:
        same = "the same bits" if each["same_bits"] else "OTHER BITS"
        ours, theirs = each["mmplane_transform_ms"], each["transformers_transform_ms"]
        texts.append(f"{each['workload']}: transform {ours:.1f} ms, transformers' own {theirs:.1f} ms of CPU, {same}")
    if "soak" in found:
        soak = found["soak"]
        flat = "flat" if soak["flat"] else f"NOT FLAT {soak['why']}"
        texts.append(f"soak of {soak['seconds']:.0f} s, {soak['requests']} requests, errors {soak['errors']}: {flat}")
    return texts


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*cells(row), style=None if row["result"] else "red")
    return table
