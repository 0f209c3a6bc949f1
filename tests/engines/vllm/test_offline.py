"""vLLM without a server: the process that asks has no event loop."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vllm_live import VENV

PROGRAM = Path(__file__).with_name("offline_check.py")
LIMIT_S = 300.0


@pytest.mark.full
def test_offline(folder: Path) -> None:
    plain, plugin = run(folder, VLLM_PLUGINS="none"), run(folder, VLLM_PLUGINS="mmplane", MMPLANE_VLLM="carry")
    assert plugin["said"] == plain["said"]
    assert (plain["carried"], plugin["carried"]) == (None, 2)


def run(folder: Path, **environment: str) -> dict[str, Any]:
    """What it said."""
    fixed = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    fixed |= {"MMPLANE_VLLM_ARENA_BYTES": str(2**28), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [str(VENV / "bin" / "python"), str(PROGRAM), str(folder)]
    given = os.environ | fixed | environment
    ran = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, ran.stderr[-3000:]
    answer: dict[str, Any] = json.loads(lines[0].removeprefix("ANSWER "))
    return answer
