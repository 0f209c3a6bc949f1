"""A run's output on the terminal: the rows as tables, and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from mmplane.bench.judge.evidence import SETTINGS
from mmplane.bench.judge.groups import Row, groups
from mmplane.bench.judge.predictions import Verdict
from mmplane.bench.judge.targets import Judged
from mmplane.bench.report.columns import P99_MIN, circumstances, in_order, table
from mmplane.bench.report.markdown import TARGET_COLUMNS, target_cells


def tables(rows: Sequence[Row]) -> list[Table]:
    """Return one table for each workload, number of ranks and pace."""
    return [_table(title, group) for title, group in groups(rows)]


def remote(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with one line per workload, measured on a server that was already running."""
    shown = Table(title="as seen by clients; times in milliseconds", title_justify="left")
    for name in REMOTE_COLUMNS:
        shown.add_column(name, justify="left" if name == "workload" else "right")
    for row in rows:
        times = [
            "-"
            if row[name][quantile] is None or (quantile == "p99" and row["requests"] < P99_MIN)
            else f"{row[name][quantile]:,.1f}"
            for name in ("latency_ms", "first_token_ms", "inter_token_ms")
            for quantile in ("p50", "p99")
        ]
        pace = f"{row['concurrency']} at once" if row["rate"] is None else f"{row['rate']:g} per second"
        rates = (f"{row['qps']:.2f}", f"{row['tokens_per_s']:,.1f}")
        shown.add_row(f"{row['workload']}, {pace}", str(row["requests"]), str(row["errors"]), *rates, *times)
    return shown


REMOTE_COLUMNS = (
    *("workload", "requests", "errors", "requests/s", "tokens/s", "latency p50", "p99"),
    *("first token p50", "p99", "between tokens p50", "p99"),
)


def verdicts(found: Sequence[Verdict]) -> Table:
    """Return the predictions that this run can judge. The report has the other predictions and the reasons."""
    shown = Table(title="predicted by the analyses, measured here", title_justify="left")
    for name in ("analysis", "what", "implied", "measured", "verdict"):
        shown.add_column(name)
    for verdict in found:
        if verdict.agrees is not None:
            prediction = verdict.prediction
            measured = verdict.cells[SETTINGS.index(prediction.setting)].strip("*")
            shown.add_row(prediction.analysis, prediction.what, prediction.implied, measured, verdict.verdict)
    shown.caption = f"{sum(verdict.agrees is None for verdict in found)} predictions have no verdict in this run"
    return shown


def judgements(found: Sequence[Judged]) -> Table:
    """Return the targets of `arena` that were measured."""
    shown = Table(title="targets of arena, measured here", title_justify="left")
    for name in TARGET_COLUMNS:
        shown.add_column(name)
    for each in found:
        if each.met is not None:
            shown.add_row(*target_cells(each), style=None if each.met else "red")
    return shown


def notes(found: dict[str, Any]) -> list[str]:
    """Return what the tables do not show: conditions, what was skipped and why, the transforms, the soak."""
    texts = circumstances(found["rows"])
    reasons: dict[str, list[str]] = {}
    for each in found["skipped"]:
        reasons.setdefault(each["why"], []).append(each["delivery"])
    for why, names in reasons.items():
        texts.append(f"not measured: {', '.join(dict.fromkeys(names))}: {why}")
    for each in found["transforms"]:
        same = "identical bits" if each["same_bits"] else "DIFFERENT BITS"
        ours, theirs = each["mmplane_transform_ms"], each["transformers_transform_ms"]
        texts.append(f"{each['workload']}: transform {ours:.1f} ms, transformers' own {theirs:.1f} ms of CPU, {same}")
    if "soak" in found:
        soak = found["soak"]
        flat = "flat" if soak["flat"] else f"NOT FLAT {soak['why']}"
        texts.append(f"soak of {soak['seconds']:.0f} s, {soak['requests']} requests, errors {soak['errors']}: {flat}")
    return texts


def _table(title: str, rows: list[Row]) -> Table:
    shown = Table(title=title, title_justify="left")
    ordered = in_order(rows)
    names, lines = table(ordered)
    for index, name in enumerate(names):
        shown.add_column(name, justify="right" if index else "left")
    for row, cells in zip(ordered, lines, strict=True):
        shown.add_row(*cells, style=None if row["result"] else "red")
    return shown
