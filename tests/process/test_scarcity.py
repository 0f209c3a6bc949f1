"""Too little of something: memory, disk, descriptors, a steady clock, arena. A clear error, nothing lost."""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from live import Live, serving
from pictures import jpeg, noise, part, text
from preloaded import Preloaded

from polling import until

MIB = 2**20
FILES = 672
"""Descriptors of a process, where they are few."""
RECOVERY_S = 60.0
"""Only tells progress from a hang."""


def serve(*flags: str, limits: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """(exit code, last line that was said) of a server that cannot start."""
    command = [sys.executable, "-m", "mmplane", "serve", "--port", "0", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limits)
    return ended.returncode, ended.stderr.strip().splitlines()[-1]


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


def items_in(live: Live) -> tuple[int, int]:
    statistics = live.statistics()
    return statistics["arena"]["leases"], statistics["budget"]["reserved_bytes"]


def is_right_and_clean(live: Live) -> None:
    """It answers, and nothing of what failed is left."""
    until(lambda: live.http.get("/ready").status_code == 200, RECOVERY_S, "it is ready")
    answer = live.chat([part(noise(1)), text("?")], mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    until(lambda: items_in(live) == (0, 0), RECOVERY_S, "nothing is left")


# What a start says.


def test_too_few_descriptors_to_start(tiny_folder: Path) -> None:
    code, said = serve("--model", str(tiny_folder), limits=limited(resource.RLIMIT_NOFILE, 200))
    assert code == 2
    assert said.startswith("mmplane: ")
    assert "the limit of a process is 200" in said
    assert "ulimit -n" in said


def test_files_that_may_not_grow(tiny_folder: Path) -> None:
    code, said = serve("--model", str(tiny_folder), limits=limited(resource.RLIMIT_FSIZE, MIB))
    assert code == 2
    assert "ulimit -f" in said
    assert "--arena-bytes" in said


def test_a_full_disk_and_the_built_in_model(tmp_path: Path) -> None:
    """A tmpfs of 64 KiB in a mount namespace: the model does not fit, and nothing is left of the attempt."""
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=64k none "$0" && "$@"; code=$?; ls -A "$0/mmplane" >&2; exit $code'
    wrap = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path / "small"))
    command = [*wrap, sys.executable, "-m", "mmplane", "serve", "--port", "0", "--model", "tiny"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "small")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.returncode == 2
    said = ended.stderr.strip().splitlines()[-1]
    assert said.startswith("mmplane: --model tiny")
    assert "No space left on device" in said


# What a running server says.


def test_an_arena_smaller_than_one_item(tiny_folder: Path) -> None:
    with serving(tiny_folder, "--arena-bytes", str(6 * MIB), "--encoding", "float32", tp=1) as live:
        answer = live.chat([part(jpeg(1, 1600, 1200)), text("?")])
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert "arena" in answer.json()["error"]["message"]
        is_right_and_clean(live)


def test_no_descriptors_left_for_connections(tiny_folder: Path) -> None:
    """Connections beyond the limit get 503 at once; those that are there are served, and places come back."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    message = {"role": "user", "content": "Hi"}
    body = {"model": "tiny", "max_tokens": 300, "stream": True, "messages": [message], "mmplane": {"ignore_eos": True}}
    with (
        serving(tiny_folder, tp=1, limits=few) as live,
        live.http.stream("POST", "/v1/chat/completions", json=body) as begun,
    ):
        lines = begun.iter_lines()
        assert next(lines)
        held, refused = connect_until_refused(live)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused
        assert b'"code":"overloaded"' in refused
        assert len(held) > 100
        pids = live.pids()
        worker = live.processes()["worker 1"]
        worker.kill()
        until(
            lambda: live.pids().get("worker 1", worker.pid) != worker.pid,
            RECOVERY_S,
            "a worker is replaced all the same",
        )
        for connection in held:
            connection.close()
        is_right_and_clean(live)
        assert live.pids()["frontend"] == pids["frontend"]
        assert "data: [DONE]" in lines


def connect_until_refused(live: Live) -> tuple[list[socket.socket], bytes]:
    """Connections that send nothing, and what the server says to the first that it refuses."""
    address = httpx.URL(live.url)
    held: dict[int, socket.socket] = {}
    spoken = select.poll()
    while not (said := spoken.poll(0)) and len(held) < FILES:
        connection = socket.create_connection((address.host, address.port or 80))
        held[connection.fileno()] = connection
        spoken.register(connection, select.POLLIN)
    ((descriptor, _), *_) = said or spoken.poll(RECOVERY_S * 1000)
    return [*held.values()], held[descriptor].recv(4096)


def test_a_log_on_a_full_disk(tiny_folder: Path) -> None:
    """What is said is lost; what is served is not, nor does a process that ends forget to."""
    with serving(tiny_folder, "--log-level", "debug", tp=1, log_path="/dev/full") as live:
        is_right_and_clean(live)
        for title in ("worker 1", "rank 0/1"):
            before = live.processes()[title]
            before.kill()
            until(lambda t=title, p=before.pid: live.pids().get(t, p) != p, RECOVERY_S, "it is replaced")  # type: ignore[misc]
            is_right_and_clean(live)


@pytest.fixture(scope="module")
def one_worker(tiny_folder: Path) -> Iterator[Live]:
    with serving(tiny_folder, "--workers", "1", tp=1) as live:
        yield live


@pytest.mark.parametrize(("title", "refusals"), [("frontend", {503}), ("worker 1", {503}), ("parser", {413})])
def test_no_memory(title: str, refusals: set[int], one_worker: Live) -> None:
    """A process that gets no more of it: what does not need more is served, the rest is told; then all is as before."""
    live = one_worker
    is_right_and_clean(live)
    process = live.processes()[title]
    soft, hard = process.rlimit(psutil.RLIMIT_DATA)
    process.rlimit(psutil.RLIMIT_DATA, (1, hard))  # what it has stays
    pictures = [part(jpeg(process.pid + number, 4000, 3000)) for number in range(2)]  # nobody has sent them
    answers = [live.chat([*pictures[:count], text("?")]) for count in (1, 2)]
    said = {answer.json()["error"]["message"] for answer in answers if not answer.is_success}
    print(f"{title}: {[answer.status_code for answer in answers]} {said}")
    assert {answer.status_code for answer in answers} <= {200} | refusals
    assert all("memory" in message for message in said)
    assert live.pids()[title] == process.pid
    process.rlimit(psutil.RLIMIT_DATA, (soft, hard))
    is_right_and_clean(live)
    assert live.chat([*pictures, text("?")]).status_code == 200


JUMPS = """
import time
from pathlib import Path

real = time.time

def jumping():
    try:
        return real() + float(Path({path!r}).read_text() or 0)
    except OSError:
        return real()

time.time = jumping
"""


def test_the_clock_jumps(tiny_folder: Path, tmp_path: Path) -> None:
    """A day ahead and a day back, seen by every process, while requests run: nobody is late, early, or replaced."""
    offset = tmp_path / "offset"
    (tmp_path / "sitecustomize.py").write_text(JUMPS.format(path=str(offset)))
    with (
        closing(Preloaded({"PYTHONPATH": str(tmp_path)})) as jumping,
        serving(tiny_folder, "--stall-seconds", "3", preloaded=jumping) as live,
    ):
        pids = live.pids()
        created = []
        for seed, jump_s in enumerate((0, 86_400, -86_400, 0)):
            offset.write_text(str(jump_s))
            answer = live.chat([part(noise(seed)), text("?")], max_tokens=64)
            assert answer.status_code == 200
            created.append(answer.json()["created"])
            assert live.http.get("/ready").status_code == 200
        assert created[1] - created[0] > 80_000, "the jump was seen"
        assert created[2] - created[0] < -80_000
        assert live.pids() == pids
