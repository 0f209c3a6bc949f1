"""Groups of comparable rows: same workload, ranks, pace and runner. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

Row = dict[str, Any]
"""One row of a run's JSON."""


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield a title and the rows of each group, best rate first."""
    ordered = sorted(rows, key=lambda row: (*_sortable(row), -(row.get("qps") or 0)))
    for (workload, tp, runner, concurrency, rate), group in groupby(ordered, key=_sortable):
        pace = f"{rate} requests per second" if concurrency == "None" else f"{concurrency} at once"
        yield f"{workload}: {tp} ranks, {pace}, runner {runner}", list(group)


def place(row: Row) -> tuple[Any, ...]:
    """Return the values that comparable rows have in common."""
    return tuple(row[name] for name in ("workload", "tp", "runner", "concurrency", "rate"))


def _sortable(row: Row) -> tuple[Any, ...]:
    workload, tp, runner, concurrency, rate = place(row)
    return workload, tp, runner, str(concurrency), str(rate)
