"""What Ray runs on each machine, without Ray: a command that is kept running, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmplane.ray import host
from mmplane.ray.host import BACKOFF_MAX_S, STEADY_S, Host, backoff_s, cleared
from mmplane.ray.wanted import Standing

LIMIT_S = 60.0
PROGRAM = """
import sys, time
_, parent, told, what = sys.argv
with open(told, "ab", buffering=0) as file:
    file.write(b"started")
    if what != "stay":
        sys.exit(int(what))
    time.sleep(1000)
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe that each start of the command writes to. The command is a module `stand_in`."""
    (tmp_path / "stand_in.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(host, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(host, "BACKOFF_MAX_S", 0.01)
    os.mkfifo(tmp_path / "told")
    return tmp_path / "told"


def made(told: Path, what: str) -> Host:
    return Host(msgspec.msgpack.encode((str(told), what)), "stand_in")


def standing(one: Host) -> Standing:
    return msgspec.msgpack.decode(one.standing(), type=Standing)


def test_a_command_that_ends_is_started_again(told: Path) -> None:
    reader = os.open(told, os.O_RDWR)
    one = made(told, "3")
    assert b"".join(os.read(reader, 7) for _ in range(3)) == b"started" * 3
    one.end()
    os.close(reader)
    found = standing(one)
    assert found.pid == 0
    assert found.starts >= 3
    assert found.last_code in (3, -signal.SIGTERM)


def test_a_system_that_refuses_processes_is_asked_again(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen, asked = subprocess.Popen, []

    def refuse_once(*words: Any, **more: Any) -> Any:
        asked.append(words)
        if len(asked) == 1:
            raise BlockingIOError("no process")
        return popen(*words, **more)

    monkeypatch.setattr(subprocess, "Popen", refuse_once)
    reader = os.open(told, os.O_RDWR)
    one = made(told, "stay")
    assert os.read(reader, 7) == b"started"
    one.end()
    os.close(reader)
    assert (len(asked), standing(one).starts) == (2, 1)


def test_what_runs_is_ended_and_not_started_again(told: Path) -> None:
    reader = os.open(told, os.O_RDWR)
    one = made(told, "stay")
    assert os.read(reader, 7) == b"started"
    running = standing(one)
    assert (running.starts, running.last_code) == (1, None)
    pidfd = os.pidfd_open(running.pid)
    one.end()
    one.end()  # twice is the same
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
    os.close(reader)
    assert standing(one) == Standing(0, 0.0, 1, -signal.SIGTERM)
    assert not [each for each in threading.enumerate() if each is one._thread]


def test_the_wait_grows_and_ends_with_a_long_life() -> None:
    waits = [0.0]
    for _ in range(10):
        waits.append(backoff_s(0.0, waits[-1]))
    assert waits[1:4] == [1.0, 2.0, 4.0]
    assert waits[-1] == BACKOFF_MAX_S
    assert backoff_s(STEADY_S, BACKOFF_MAX_S) == 0.0


def test_rays_own_variables_are_not_passed_on() -> None:
    environment = {"RAY_AUTH_TOKEN": "secret", "RAY_JOB_ID": "1", "OMP_NUM_THREADS": "1", "PATH": "/bin", "RAYON": "2"}
    assert cleared(environment) == {"PATH": "/bin", "RAYON": "2"}


def start(parent: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmplane.ray.starter", str(parent), "--version"]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)


def test_the_starter_becomes_the_command_while_its_parent_lives() -> None:
    done = start(os.getpid())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mmplane ")


def test_the_starter_ends_when_its_parent_has_gone() -> None:
    assert start(1).returncode == -signal.SIGKILL
