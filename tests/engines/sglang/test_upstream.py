"""The reproductions of docs/upstream.md: SGLang is as each report says, and the proposal helps."""

from __future__ import annotations

import os
import re
import subprocess

from sglang_checks import LIMIT_S, STUBS
from sglang_live import ROOT, VENV

FOLDER = ROOT / "tools" / "upstream"
REPORT = (ROOT / "docs" / "upstream.md").read_text()
PROGRAM = "import {0}; raise SystemExit(any([one.main() for one in ({0},)]))"


def test_reports_are_still_true() -> None:
    """In one process: most of the time is SGLang's imports."""
    scripts = sorted(path.stem for path in FOLDER.glob("sglang_*.py"))
    assert scripts == sorted(re.findall(r"python tools/upstream/(sglang_\w+)\.py", REPORT))
    environment = os.environ | {"PYTHONPATH": f"{STUBS}:{FOLDER}", "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "no"}
    command = [str(VENV / "bin" / "python"), "-c", PROGRAM.format(", ".join(scripts))]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    assert ran.stdout.count("reproduced and solved") == 2
    for line in re.findall(r"^(?:SGLang|proposed) .*$", REPORT, re.MULTILINE):
        assert line in ran.stdout, "the report quotes what the script prints"
