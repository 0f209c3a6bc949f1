"""The checks of `transport_checks.py`, which run in SGLang's own environment: one process for all of them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from sglang_live import ROOT, VENV

PROGRAM = Path(__file__).with_name("transport_checks.py")
STUBS = ROOT / "tools" / "peers" / "sglang" / "stubs"
LIMIT_S = 240.0


def names() -> list[str]:
    """What the program's table of checks names."""
    tree = ast.parse(PROGRAM.read_text())
    (table,) = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert isinstance(table.value, ast.Tuple)
    return [name.id for name in table.value.elts if isinstance(name, ast.Name)]


@cache
def outcomes() -> dict[str, str | None]:
    """What went wrong in each check."""
    environment = os.environ | {"PYTHONPATH": str(STUBS), "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "mmplane"}
    command = [str(VENV / "bin" / "python"), str(PROGRAM)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [json.loads(line.removeprefix("CHECK ")) for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert lines, ran.stderr[-3000:]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", names())
def test_transport(name: str) -> None:
    error = outcomes()[name]
    assert error is None, error


def test_doctor_finds_nothing_wrong() -> None:
    environment = os.environ | {"PYTHONPATH": str(STUBS), "SGLANG_USE_CPU_ENGINE": "1", "PYTHONWARNINGS": "ignore"}
    command = [str(VENV / "bin" / "python"), "-m", "mmplane", "doctor", "--sglang"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line.split()[-1] for line in ran.stdout.splitlines()] == ["ok"] * 4


def test_doctor_says_that_the_plugin_is_not_chosen() -> None:
    environment = os.environ | {"PYTHONPATH": str(STUBS), "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "other"}
    command = [str(VENV / "bin" / "python"), "-m", "mmplane", "doctor", "--sglang"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 1
    assert "SGLANG_PLUGINS leaves it out" in ran.stdout
