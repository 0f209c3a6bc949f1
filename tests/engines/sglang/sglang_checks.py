"""Programs of checks that run in SGLang's own environment: one process for all checks of one."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import sglang_live
from sglang_live import ROOT, VENV

STUBS = ROOT / "tools" / "peers" / "sglang" / "stubs"
PATH = os.pathsep.join(map(str, (*sglang_live.PATH, STUBS, ROOT / "tests" / "shared")))
LIMIT_S = 240.0


def names(program: str) -> list[str]:
    """What the program's table of checks names."""
    tree = ast.parse((Path(__file__).parent / program).read_text())
    (table,) = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert isinstance(table.value, ast.Tuple)
    return [name.id for name in table.value.elts if isinstance(name, ast.Name)]


@cache
def outcomes(program: str) -> dict[str, str | None]:
    """What went wrong in each check."""
    environment = os.environ | {"PYTHONPATH": PATH, "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_PLUGINS": "mmplane"}
    command = [str(VENV / "bin" / "python"), str(Path(__file__).parent / program)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    lines = [json.loads(line.removeprefix("CHECK ")) for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert lines, ran.stderr[-3000:]
    return {line["name"]: line["error"] for line in lines}
