"""Load generators of others against our own server: small data sets that they make themselves, and no network."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

REQUESTS = 6
HANG_S = 240.0
TOTAL = re.compile(r"^(Successful|Failed) requests:\s+(\d+)", re.MULTILINE)


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """What it printed. It must end well, and ask nobody for a model or a data set."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MMPLANE_", "PYTHONPATH"))}
    ended = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
        cwd=cwd,
        env=told | {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"},
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4000:]
    return ended.stdout


def check_table(printed: str, *, titles: Sequence[str]) -> None:
    """Every request succeeded, and the table has these lines."""
    totals = {name: int(count) for name, count in TOTAL.findall(printed)}
    assert totals in ({"Successful": REQUESTS}, {"Successful": REQUESTS, "Failed": 0}), printed[-4000:]
    assert [title for title in titles if title not in printed] == []
