"""Starting: what cannot work is said at once, in one line, to the person who can change it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest


def serve(*flags: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mmplane", "serve", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "./nowhere"], "--model"),
        (["--arena-bytes", str(2**50)], "--arena-bytes"),
        (["--arena-bytes", "1000"], "--arena-bytes"),
        (["--tp", "0"], "--tp"),
        (["--host", "0.0.0.0"], "--host"),
    ],
)
def test_what_cannot_work(flags: list[str], words: str, tiny_folder: Path) -> None:
    model = [] if "--model" in flags else ["--model", str(tiny_folder)]
    code, said = serve(*model, "--port", "0", *flags)
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith("mmplane: ")
    assert words in last


def test_a_port_that_is_taken(tiny_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = serve("--model", str(tiny_folder), "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "--port" in said


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, said = serve("--model", str(tmp_path), "--port", "0", "--arena-bytes", str(64 * 2**20))
    assert code == 2
    assert said.count("the model cannot be served") == 1
    assert "Traceback" not in said


def test_ranks_that_do_not_divide_the_heads(tiny_folder: Path) -> None:
    code, said = serve("--model", str(tiny_folder), "--port", "0", "--tp", "3", "--arena-bytes", str(64 * 2**20))
    assert code == 2
    assert said.count("the model cannot be served") == 1
    assert "Traceback" not in said
