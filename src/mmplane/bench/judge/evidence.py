"""Selects the rows that a prediction is judged by: those of its setting that best match the analysis. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mmplane.bench.judge.groups import Row, place
from mmplane.bench.judge.joined import Found, environments

SETTINGS = ("incident", "cores", "oversubscribed")
"""The settings, in the order of the columns; docs/bench.md describes them."""
QUIET_CORES = 0.1
"""Rows are judged only if other processes used at most this many cores in the seconds before the command."""
CLIP = ("incident:500:10MB", "incident:500", "video-2mb", "photo")
"""Workloads in order of preference: the incident was about a clip."""


class Evidence(msgspec.Struct, frozen=True):
    """The rows of one setting, and the whole run with its other measurements."""

    setting: str
    rows: tuple[Row, ...]
    found: Found

    def row(self, delivery: str, at: Sequence[int], workloads: Sequence[str] = CLIP) -> Row | None:
        """Return the best matching row of a delivery, by workload and then by pace; baselines without their cache."""
        both = self.both(delivery, delivery, at, workloads)
        return both[0] if both else None

    def both(
        self, delivery: str, against: str, at: Sequence[int], workloads: Sequence[str] = CLIP
    ) -> tuple[Row, Row] | None:
        """Return two deliveries' rows of one workload. `at` is the number of concurrent requests, preferred first."""
        closed = [row for row in self.rows if row["concurrency"] is not None and _rank(row, workloads) is not None]
        mine = [row for row in closed if row["delivery"] == delivery]
        for row in sorted(mine, key=lambda row: _preference(row, at, workloads)):
            same = [other for other in self.rows if other["delivery"] == against and place(other) == place(row)]
            if same:
                return row, min(same, key=lambda other: _preference(other, at, workloads))
        return None


def evidence(found: Found) -> dict[str, Evidence]:
    """Return the rows that are results, by setting."""
    rows = [row for row in found["rows"] if row["result"] and not row["workload"].startswith("bytes:")]
    return {
        setting: Evidence(setting, tuple(row for row in rows if row["setting"] == setting), found)
        for setting in SETTINGS
    }


def quiet(row: Row) -> bool:
    """Whether the machine was quiet before the row's run; True if the run did not measure that."""
    return (row.get("others_cores") or 0.0) <= QUIET_CORES


def busy(found: Found) -> float:
    """Return how many cores other processes used before the run (the maximum of joined runs); 0 if it was quiet."""
    used = max((each.get("others_cores") or 0.0 for each in environments(found)), default=0.0)
    return used if used > QUIET_CORES else 0.0


def where(row: Row) -> str:
    """Return the workload, ranks and pace of a row, for a cell of a table."""
    pace = f"{row['rate']:g} req/s" if row["concurrency"] is None else f"{row['concurrency']} at once"
    return f"{row['workload']}, TP={row['tp']}, {pace}"


def _preference(row: Row, at: Sequence[int], workloads: Sequence[str]) -> tuple[Any, ...]:
    pace = at.index(row["concurrency"]) if row["concurrency"] in at else len(at) + abs(row["concurrency"] - at[0])
    large = "90MB" in row["workload"] and "90MB" not in workloads[0]
    return (large, pace, _rank(row, workloads), -row["tp"], row["cache"])


def _rank(row: Row, workloads: Sequence[str]) -> int | None:
    """Return the index of the row's workload in `workloads`, or None; `incident` matches all incident workloads."""
    names = (f"{row['workload']}:".startswith(f"{name}:") for name in workloads)
    return next((index for index, same in enumerate(names) if same), None)
