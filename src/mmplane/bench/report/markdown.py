"""A run's JSON as a page of tables: what `docs/results.md` is. Pure, so a test can hold the page against the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmplane.bench.report.answers import answers
from mmplane.bench.report.groups import Row, groups
from mmplane.bench.report.joined import environments
from mmplane.bench.report.predictions import judged
from mmplane.bench.report.targets import Judged, targets

COLUMNS = (
    "delivery",
    "req/s",
    "min to max",
    "p50 ms",
    "p99 ms",
    "CPU ms",
    "front end",
    "workers",
    "ranks",
    "stall p99 ms",
    "materialised",
    "peak MB",
)
TARGET_COLUMNS = ("what", "asked", "measured", "met", "what stands in the way")


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    environment = found["environment"]
    lines = [
        "# Results",
        "",
        "This page is written by a command from the JSON of its runs, and a test checks that it agrees. CPU is",
        "milliseconds per request by role, without what the ranks spent on checking digests; a stall is how long a",
        "rank's loop was held up by anything but the model.",
        "",
        (
            f"{environment['cores']} cores of {environment['cpu']}, {environment['memory_bytes'] / 2**30:.0f} GiB, "
            f"kernel {environment['kernel']}. `load` is the load average before a command began."
        ),
        "",
        *_table(("at", "commit", "load", "command"), [_stamp(each) for each in environments(found)]),
    ]
    for text in answers(found):
        lines += ["", text]
    for title, rows in groups(found["rows"]):
        lines += ["", f"## {title}", "", *_table(COLUMNS, [cells(row) for row in rows])]
    lines += ["", "## Asked of arena, and measured", ""]
    lines += _table(TARGET_COLUMNS, [target_cells(each) for each in targets(found)])
    lines += ["", "## Predicted and measured", ""]
    names = ("analysis", "what", "predicted", "measured", "why")
    verdicts = [
        (each.analysis, each.what, each.predicted, each.measured, "as predicted" if each.agrees else each.why)
        for each in judged(found)
    ]
    lines += _table(names, verdicts)
    lines += _skipped(found["skipped"])
    return "\n".join(lines) + "\n"


def target_cells(target: Judged) -> tuple[str, ...]:
    """One row of the table of targets."""
    met = {True: "yes", False: "NO", None: ""}[target.met]
    return target.what, target.wanted, target.measured, met, target.why


def _stamp(environment: dict[str, Any]) -> tuple[str, ...]:
    load = f"{environment['load_average']:.1f}"
    return environment["at"], str(environment["commit"]), load, f"`{environment['command']}`"


def cells(row: Row) -> list[str]:
    """One row of the table."""
    name = f"{row['delivery']}{', cache on' if row['cache'] else ''}"
    if not row["result"]:
        codes = ", ".join(f"{count} x {code}" for code, count in row["error_codes"].items())
        why = codes or "; ".join(row["wrong"][:1]) or "no answer"
        return [name, f"no result: {why}", *([""] * (len(COLUMNS) - 2))]
    cpu = {role: seconds * 1000 for role, seconds in row["cpu_s_per_request"].items()}
    rates = row["qps_spread"]
    return [
        name,
        short(row["qps"]),
        f"{short(rates['min'])} to {short(rates['max'])}",
        short(row["latency_ms"]["p50"]),
        short(row["latency_ms"]["p99"]),
        *(short(cpu[role]) for role in ("total", "frontend", "worker", "rank")),
        short(row["loop_stall_ms"]["p99"]),
        str(row["materialisations"]),
        short(row["peak_bytes"]["total"] / 1e6),
    ]


def short(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _skipped(skipped: Sequence[dict[str, str]]) -> list[str]:
    if not skipped:
        return []
    rows = [(each["workload"], each["delivery"], each["why"]) for each in skipped]
    return ["", "## Not measured", "", *_table(("workload", "delivery", "why"), rows)]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(names),
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
