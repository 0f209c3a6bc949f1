"""Several runs as one, so that one page can hold what no single command measures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]
"""A run, or several: what their JSON says."""


def joined(runs: Sequence[Found]) -> Found:
    """Rows and samples one after the other; of what a run has only once, the first. `joined` says where each ran."""
    whole: Found = {}
    for run in runs:
        for name, value in run.items():
            if isinstance(value, list):
                whole[name] = [*whole.get(name, []), *value]
            elif whole.get(name) is None:
                whole[name] = value
    if len(runs) > 1:
        whole["joined"] = [environment for run in runs for environment in environments(run)]
    return whole


def environments(found: Found) -> list[dict[str, Any]]:
    """Where and with what it was measured, by run."""
    return found.get("joined") or [found["environment"]]
