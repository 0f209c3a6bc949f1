"""The checks of `making_checks.py` and `making_families.py`, which run in vLLM's own environment: a process for each.

And real servers whose features are made by the sidecar.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from vllm_live import VENV, serving
from vllm_work import Answer, answers

CHECKS, FAMILIES = "making_checks.py", "making_families.py"
LIMIT_S = 600.0
SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": "none", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
OPTIONS = {1: (), 2: ("--max-num-batched-tokens", "1024")}


def tables(program: str) -> list[ast.expr]:
    """The values of the program's tables of checks."""
    assignments = [
        node
        for node in ast.parse(Path(__file__).with_name(program).read_text()).body
        if isinstance(node, ast.AnnAssign)
    ]
    return [node.value for node in assignments if isinstance(node.target, ast.Name) and node.value is not None]


def names(program: str) -> list[str]:
    """What they name."""
    (table,) = [table for table in tables(program) if isinstance(table, ast.Tuple | ast.Dict)]
    if isinstance(table, ast.Dict):
        return [key.value for key in table.keys if isinstance(key, ast.Constant)]
    return [name.id for name in table.elts if isinstance(name, ast.Name)]


@cache
def outcomes(program: str, folder: Path) -> dict[str, str | None]:
    """What went wrong in each check."""
    command = [str(VENV / "bin" / "python"), str(Path(__file__).with_name(program)), str(folder)]
    environment = os.environ | SETTINGS
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [json.loads(line.removeprefix("CHECK ")) for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert lines, ran.stderr[-3000:]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", [*names(CHECKS), "bits_of_dtypes"])
def test_making(name: str, folder: Path) -> None:
    error = outcomes(CHECKS, folder)[name]
    assert error is None, error


@pytest.mark.parametrize("name", names(FAMILIES))
def test_families(name: str, folder: Path) -> None:
    error = outcomes(FAMILIES, folder)[name]
    assert error is None, error


def test_same_answers_of_features_that_are_made(plain: list[Answer], folder: Path, tp: int, tmp_path: Path) -> None:
    with serving(folder, *OPTIONS[tp], tp=tp, modes="make,carry", log=tmp_path / "log") as server:
        given = answers(server)
        different = [(at, kind) for at, (kind, tokens) in enumerate(given) if (kind, tokens) != plain[at]]
        assert different == []
        server.settle()
        images, figures = server.metrics("mmplane_images_"), server.figures()
        assert images["passed_over"] == 1  # what vLLM warms up with, which is no file
        assert images["made"] == images["seen"] - 1 > 0
        assert 0 < figures["materialisations"] <= images["made"]
