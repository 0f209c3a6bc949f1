"""`examples/client.c`, compiled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "examples" / "client.c"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
HANG_S = 60.0


def compiled(folder: Path, *flags: str, source: Path = SOURCE) -> Path:
    """The program, in `folder`. A warning is an error."""
    assert shutil.which("cc"), "there is no C compiler for examples/client.c: apt-get install gcc libc6-dev"
    program = folder / "client"
    made = subprocess.run(["cc", *STRICT, *flags, "-o", program, source], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return program


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)


def leased(output: str) -> bytes:
    """The record for ranks, which the last line has in hex."""
    return bytes.fromhex(output.splitlines()[-1].removeprefix("leased "))
