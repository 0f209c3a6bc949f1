"""Starting: what only this machine or loading can find wrong is one line. For flags see tests/unit/test_mistakes.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from preloaded import PRELOADED

from polling import until


def test_an_arena_that_this_machine_has_no_memory_for(tiny_folder: Path) -> None:
    code, said = PRELOADED.run("serve", "--model", str(tiny_folder), "--port", "0", "--arena-bytes", str(2**50))
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith("mmplane: ")
    assert "--arena-bytes" in last
    assert "Traceback" not in said


FORBIDDEN = """
import ctypes, os, sys
from mmplane.process.syscalls import forbid
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # no new privileges, without which no filter is taken
assert forbid([sys.argv[1]])
os.execv(sys.executable, [sys.executable, "-m", "mmplane", *sys.argv[2:]])
"""


@pytest.mark.parametrize(("call", "feature"), [("memfd_create", "sealed memfd"), ("pidfd_open", "pidfd")])
@pytest.mark.parametrize("command", ["serve", "sidecar"])
def test_a_system_call_that_a_container_refuses(command: str, call: str, feature: str, tiny_folder: Path) -> None:
    place = [] if command == "serve" else ["--socket", str(tiny_folder / "socket")]
    arguments = [sys.executable, "-c", FORBIDDEN, call, command, "--model", str(tiny_folder), *place]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 2
    assert last.startswith(
        f"mmplane: this system does not allow {feature}: use Linux 5.4 or newer, and a seccomp profile"
    )
    assert "Traceback" not in ended.stderr


NO_TEMPORARY_FOLDER = """
import runpy, sys, tempfile
tempfile._candidate_tempdir_list = lambda: ["/proc"]
sys.argv[0] = "mmplane"
runpy.run_module("mmplane", run_name="__main__")
"""


def test_no_temporary_folder_can_be_written(tiny_folder: Path) -> None:
    arguments = [sys.executable, "-c", NO_TEMPORARY_FOLDER, "serve", "--model", str(tiny_folder), "--port", "0"]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert last == "mmplane: no temporary folder is writable: set TMPDIR to one that is"


def test_on_ipv6_and_nobody_reads_the_log_any_more(tiny_folder: Path) -> None:
    """The reader goes away before the server is ready, with both of its outputs. Under nice, media is nicer still."""
    command = [
        "nice",
        "-n",
        "10",
        sys.executable,
        "-m",
        "mmplane",
        "serve",
        "--model",
        str(tiny_folder),
        "--host",
        "::1",
        "--port",
        "0",
    ]
    command += ["--log-level", "debug", "--arena-bytes", str(64 * 2**20), "--kv-bytes", str(64 * 2**20)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        listening = (re.search(r"listening on (http://\[::1\]:\d+);", line) for line in server.stdout)
        url = next(filter(None, listening)).group(1)
        server.stdout.close()
        with httpx.Client(base_url=url, timeout=60) as http:
            until(lambda: answers(http, "/ready"), 120, "the server is ready")
            body = {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
            assert http.post("/v1/chat/completions", json=body).status_code == 200
        niceness = {" ".join(each.cmdline()): each.nice() for each in psutil.Process(server.pid).children(True)}
        (worker,) = {nice for title, nice in niceness.items() if title.startswith("mmplane: worker")}
        (rank,) = {nice for title, nice in niceness.items() if title.startswith("mmplane: rank")}
        assert worker > rank >= 10, niceness
        assert server.poll() is None
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "mmplane").write_text("a file where a folder should be")
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    code, said = PRELOADED.run("serve", "--model", "tiny", "--port", "0", env=env)
    assert code == 2
    assert "Traceback" not in said
    assert str(tmp_path / "mmplane") in said.strip().splitlines()[-1]


def test_a_checkpoint_that_only_loading_finds_wrong(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    code, said = PRELOADED.run("serve", "--model", str(tmp_path), "--port", "0", "--arena-bytes", str(64 * 2**20))
    assert code == 2
    assert said.count("the model cannot be served") == 1
    assert "Traceback" not in said
