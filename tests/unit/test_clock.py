"""Durations, waits and limits are of the monotonic clock: the other one may be set at any time."""

from __future__ import annotations

import ast
from pathlib import Path

import mmplane

ROOT = Path(mmplane.__file__).parent
WALL_CLOCK = {"time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow", "datetime.today"}
SHOWN = {"frontend/http/completions.py", "bench/run/environment.py", "bench/run/meters.py", "observe/journey.py"}
"""These show people what time it is, or compare it with what the kernel shows, and wait for nothing."""


def readings(text: str) -> set[str]:
    """What of the wall clock this source reads."""
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return WALL_CLOCK & {ast.unparse(called) for called in calls} | _imported(text)


def _imported(text: str) -> set[str]:
    """`from time import time` hides the module's name."""
    imports = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module == "time")
    return {f"time.{alias.name}" for node in imports for alias in node.names} & WALL_CLOCK


def test_nobody_waits_by_the_wall_clock() -> None:
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if readings(path.read_text())}
    assert found <= SHOWN


def test_it_would_be_found() -> None:
    assert readings("import time\ndeadline = time.time() + 5") == {"time.time"}
    assert readings("from time import time as now") == {"time.time"}
    assert readings("import time\ntime.monotonic()") == set()
