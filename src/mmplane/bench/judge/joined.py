"""Joins several runs into one, so that one page can show what no single command measures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]
"""The JSON of a run, or of several joined runs."""

SINGLE = ("pickled", "soak")
"""Parts that a run measures once and that are judged like rows."""
PLACE = (
    "setting", "workload", "tp", "runner", "concurrency", "rate", "delivery", "cache", "ingress", "feature_hash",
)  # fmt: skip
"""Two rows with equal values of these measure the same."""


def joined(runs: Sequence[Found]) -> Found:
    """Concatenate rows and samples of all runs. Of parts that a run has only once, keep the first run's.

    `joined` in the result lists the environment of each run. Each row gets its run's setting and date, and the cores
    that other processes used before it. The cost of decoding gets its run's date too: it bounds the rates of that run
    alone.
    """
    whole: Found = {}
    for run in runs:
        at = run["environment"]["at"]
        stamped = run | {"rows": [_stamped(row, run["environment"]) for row in run["rows"]]}
        if "decoding" in run:
            stamped["decoding"] = [{"at": at, **each} for each in run["decoding"]]
        for name, value in stamped.items():
            if isinstance(value, list):
                whole[name] = [*whole.get(name, []), *value]
            elif whole.get(name) is None:
                whole[name] = value
                if name in SINGLE and value is not None:
                    whole[name] = {"others_cores": run["environment"].get("others_cores")} | value
    if len(runs) > 1:
        whole["joined"] = [environment for run in runs for environment in environments(run)]
    return whole


def newest(found: Found) -> Found:
    """Drop rows that were measured again later in the same place, and all but the newest timelines.

    The runs must have been joined newest first.
    """
    rows: dict[tuple[Any, ...], Found] = {}
    for row in sorted(found["rows"], key=lambda row: str(row["at"])):
        rows[tuple(row.get(name) for name in PLACE)] = row
    timelines: dict[tuple[str, int], Found] = {}
    for group in found.get("timelines", []):
        timelines.setdefault((group["delivery"], group["at_once"]), group)
    return found | {"rows": list(rows.values())} | ({"timelines": list(timelines.values())} if timelines else {})


def environments(found: Found) -> list[dict[str, Any]]:
    """Return the environment of each run."""
    return found.get("joined") or [found["environment"]]


def _stamped(row: Found, environment: dict[str, Any]) -> Found:
    ranks = "oversubscribed" if row["tp"] > environment["cores"] else "cores"
    simulated = row["workload"].startswith("incident")
    by_run = {
        "setting": environment.get("setting") or ("incident" if simulated else ranks),
        "at": environment["at"],
        "others_cores": environment.get("others_cores"),
    }
    return by_run | {name: value for name, value in row.items() if name not in by_run or value is not None}
