"""The checks of `carry_checks.py`, which run in vLLM's own environment: one process for all of them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from vllm_live import VENV

PROGRAM = Path(__file__).with_name("carry_checks.py")
LIMIT_S = 300.0


def names() -> list[str]:
    """What the program's table of checks names."""
    tree = ast.parse(PROGRAM.read_text())
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "CHECKS"
    ]
    assert isinstance(table, ast.Tuple)
    return [name.id for name in table.elts if isinstance(name, ast.Name)]


@cache
def outcomes() -> dict[str, str | None]:
    """What went wrong in each check."""
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": "none"}
    command = [str(VENV / "bin" / "python"), str(PROGRAM)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [json.loads(line.removeprefix("CHECK ")) for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert lines, ran.stderr[-3000:]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", names())
def test_carry(name: str) -> None:
    error = outcomes()[name]
    assert error is None, error
