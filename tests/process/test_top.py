"""`mmplane top` against a real server, as a command."""

from __future__ import annotations

import subprocess
import sys

from conformance import post
from live import Live
from pictures import noise, part

from mmplane.core.stages import PHASES


def top(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmplane", "top", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"COLUMNS": "160"})


def test_once(server: Live) -> None:
    assert post(server, [part(noise(91_001))]).status_code == 200
    run = top("--url", server.url, "--once", "--interval", "0.1")
    assert (run.returncode, run.stderr) == (0, "")
    assert " serving " in run.stdout
    assert all(phase in run.stdout for phase in PHASES)
    assert "region" in run.stdout


def test_a_server_that_is_not_there() -> None:
    run = top("--url", "http://127.0.0.1:1", "--once")
    assert run.returncode == 1
    assert run.stderr.startswith("mmplane top: http://127.0.0.1:1 cannot be read")
    assert run.stdout == ""


def test_something_else_that_is_there(server: Live) -> None:
    run = top("--url", server.url + "/health", "--once")
    assert run.returncode == 1
    assert "cannot be read" in run.stderr
