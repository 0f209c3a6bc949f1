"""The checks of `transport_checks.py`, which run in SGLang's own environment: one process for all of them."""

from __future__ import annotations

import os
import subprocess

import pytest
from sglang_checks import LIMIT_S, PATH, names, outcomes
from sglang_live import VENV

PROGRAM = "transport_checks.py"


@pytest.mark.parametrize("name", names(PROGRAM))
def test_transport(name: str) -> None:
    error = outcomes(PROGRAM)[name]
    assert error is None, error


def test_doctor_finds_nothing_wrong() -> None:
    environment = os.environ | {"PYTHONPATH": PATH, "SGLANG_USE_CPU_ENGINE": "1", "PYTHONWARNINGS": "ignore"}
    command = [str(VENV / "bin" / "python"), "-m", "mmplane", "doctor", "--sglang"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line.split()[-1] for line in ran.stdout.splitlines()] == ["ok"] * 4


def test_doctor_says_that_the_plugin_is_not_chosen() -> None:
    environment = os.environ | {"PYTHONPATH": PATH, "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "other"}
    command = [str(VENV / "bin" / "python"), "-m", "mmplane", "doctor", "--sglang"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 1
    assert "SGLANG_PLUGINS leaves it out" in ran.stdout
