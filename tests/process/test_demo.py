"""`mmplane demo` as a new user runs it: the built-in model must read all three numbers."""

from __future__ import annotations

import subprocess
import sys


def test_demo() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mmplane", "demo"], capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("   right") == 3
    assert ended.stdout.strip().endswith("3 of 3 right")
