"""The checks of `processor_checks.py`, which run in SGLang's own environment: one process for each backend."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from sglang_live import ROOT, VENV

PROGRAM = Path(__file__).with_name("processor_checks.py")
STUBS = ROOT / "tools" / "peers" / "sglang" / "stubs"
FILES = ROOT / "tests" / "unit" / "media" / "decoding" / "files"
LIMIT_S = 600.0


def names() -> list[str]:
    """What the program's table of checks names."""
    tables = [node for node in ast.parse(PROGRAM.read_text()).body if isinstance(node, ast.AnnAssign)]
    (table,) = [node.value for node in tables if isinstance(node.value, ast.Tuple)]
    return [name.id for name in table.elts if isinstance(name, ast.Name)]


@cache
def outcomes(folder: Path, backend: str) -> dict[str, str | None]:
    """What went wrong in each check."""
    path = [str(STUBS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "none", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path)
    command = [str(VENV / "bin" / "python"), str(PROGRAM), str(folder), backend, str(FILES)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [json.loads(line.removeprefix("CHECK ")) for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert lines, ran.stderr[-3000:]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_processor(folder: Path, backend: str, name: str) -> None:
    error = outcomes(folder, backend)[name]
    assert error is None, error
