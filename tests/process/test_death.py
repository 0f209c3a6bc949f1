"""Invariants 6 and 7: every role may be killed; service comes back by itself, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from live import Live, alive, serving, shared_memory
from pictures import noise, part, text

from polling import until

PAUSE_S = 0.1
"""Between two questions of a client: refusals take no time, and would take the machine from what is started anew."""
LIMIT_S = 60.0
"""Only tells progress from a hang: `make chaos` and the benchmarks say how soon service is back."""


@pytest.fixture(scope="module")
def live(tiny_folder: Path) -> Iterator[Live]:
    with serving(tiny_folder, "--stall-seconds", "3", executed=True) as server:
        yield server


def ask(live: Live, seed: int) -> tuple[int, str]:
    """Status and tokens of one request with a picture; 0 when the connection broke."""
    try:
        answer = live.chat([part(noise(seed)), text("What?")], max_tokens=16, mmplane={"trace": True})
    except httpx.TransportError:
        return 0, ""
    return answer.status_code, str(answer.json()["mmplane"]["trace"]["token_ids"]) if answer.is_success else answer.text


class Load:
    """Requests one after the other on several threads, while something happens; each answer is right or a 503."""

    def __init__(self, live: Live, right: dict[int, str], broken: set[int]) -> None:
        self._live = live
        self._right = right
        self._allowed = {200, 503} | broken
        self._stop = threading.Event()
        self._wrong: list[tuple[int, int, str]] = []
        self.answers = 0
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in right]

    def _run(self, seed: int) -> None:
        while not self._stop.is_set():
            status, answer = ask(self._live, seed)
            self.answers += 1
            self._stop.wait(PAUSE_S)
            if status not in self._allowed or (status == 200 and answer != self._right[seed]):
                self._wrong.append((seed, status, answer))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._wrong == []


@pytest.fixture(scope="module")
def right(live: Live) -> dict[int, str]:
    answers = {seed: ask(live, seed) for seed in range(400, 404)}
    assert {status for status, _ in answers.values()} == {200}
    assert len({answer for _, answer in answers.values()}) > 1, "the answers must depend on the pictures"
    return {seed: answer for seed, (_, answer) in answers.items()}


def serves(live: Live) -> bool:
    """Whether a picture that nobody has sent passes."""
    return ask(live, int.from_bytes(os.urandom(4), "big"))[0] == 200


@pytest.mark.parametrize("title", ["worker 1", "worker 2", "parser", "rank 0/2", "rank 1/2", "frontend"])
def test_kill(title: str, live: Live, right: dict[int, str]) -> None:
    before = live.pids()
    with Load(live, right, broken={0} if title == "frontend" else set()) as load:
        until(lambda: load.answers >= 8, LIMIT_S, "the load runs")
        victim = live.processes()[title]
        victim.kill()
        until(lambda: live.pids().get(title, victim.pid) != victim.pid, LIMIT_S, f"{title} is replaced")
        until(lambda: serves(live), LIMIT_S, "service is back")
    after = until(lambda: (now := live.pids()).keys() == before.keys() and now, LIMIT_S, "everybody is there")
    # The group of ranks is replaced whole; the front end's workers and parser with it; nobody else is touched.
    family = "rank" if title.startswith("rank") else title
    for other in before:
        replaced = other.startswith(family) or (title == "frontend" and other.startswith(("worker", "parser")))
        assert (after[other] != before[other]) == replaced, other
    settled = until(lambda: _settled(live), LIMIT_S, "leases and quarantine are back to nothing")
    assert settled["arena"]["total"]["leased_bytes"] == 0
    said = re.escape(f"(pid {before[title]}) was killed by SIGKILL")
    role = "the group of ranks" if family == "rank" else title
    until(
        lambda: re.search(f"WARNING .*{said}.*INFO {role}: back after \\d", "".join(live.log), re.DOTALL),
        LIMIT_S,
        "both lines",
    )


def _settled(live: Live) -> dict | None:
    statistics = live.statistics()
    arena = statistics["arena"]
    quiet = arena["leases"] == 0 and arena["total"]["quarantined_bytes"] == 0 and arena["total"]["writing_bytes"] == 0
    return statistics if quiet and statistics["requests"]["in_flight"] == 0 else None


@pytest.mark.parametrize("title", ["rank 0/2", "rank 1/2", "frontend"])
def test_stand_still(title: str, live: Live, right: dict[int, str]) -> None:
    """A stopped process is noticed by its silence, killed and replaced."""
    victim = live.processes()[title]
    with Load(live, right, broken={0} if title == "frontend" else set()):
        victim.suspend()
        until(lambda: not alive([victim.pid]), LIMIT_S, f"{title} is killed")
        until(lambda: serves(live), LIMIT_S, "service is back")
    until(lambda: _settled(live), LIMIT_S, "leases are back to nothing")


def test_a_stopped_supervisor_changes_nothing(live: Live, right: dict[int, str]) -> None:
    live.supervisor.suspend()
    try:
        for seed, answer in right.items():
            assert ask(live, seed) == (200, answer)
    finally:
        live.supervisor.resume()
    pids = live.pids()
    assert serves(live)
    assert live.pids() == pids


def test_killing_the_nursery_starts_everything_anew(live: Live, right: dict[int, str]) -> None:
    before = live.pids()
    live.processes()["nursery"].kill()
    until(
        lambda: not alive([pid for title, pid in before.items() if title != "supervisor"]), LIMIT_S, "its children die"
    )
    until(lambda: serves(live), LIMIT_S, "service is back")
    assert all(ask(live, seed) == (200, answer) for seed, answer in right.items())


def heard(manager: socket.socket) -> list[str]:
    """What a service manager was told, in order."""
    said = []
    with suppress(BlockingIOError):
        while True:
            said.append(manager.recv(64).decode())
    return said


def named_memory(processes: Iterable[psutil.Process]) -> set[str]:
    """The shared memory with a name that these have mapped: others on this machine may come and go meanwhile."""
    maps = (line for process in processes for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines())
    return {line for line in maps if "/dev/shm/" in line and not line.endswith("(deleted)")}


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_remains(how: str, tiny_folder: Path, tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(name := f"\0mmplane-{tmp_path.name}-{os.getpid()}")
    manager.setblocking(False)
    env = {"TMPDIR": str(tmp_path), "NOTIFY_SOCKET": name.replace("\0", "@")}
    live = Live(tiny_folder, env=env, executed=how == "SIGKILL")  # nobody tells its children
    try:
        assert serves(live)
        processes = live.processes()
        assert len(processes) == 1 + 1 + 1 + 1 + 2 + 2
        assert not named_memory(processes.values()), "what has a name stays when its process is killed"
        # A stopped child cannot act on a signal or on an end of file; it must go all the same.
        processes["worker 1"].suspend()
        live.signal(signal.Signals[how])
        code = live.wait()
        until(lambda: not alive([process.pid for process in processes.values()]), LIMIT_S, "all have ended")
        assert code == {"SIGINT": 0, "SIGTERM": 0, "SIGKILL": -9}[how]
        assert heard(manager) == ["READY=1", *(["STOPPING=1"] if how == "SIGTERM" else [])]
    finally:
        live.stop()
        manager.close()
    assert not [name for name in shared_memory() if "mmplane" in name]
    assert not list(tmp_path.iterdir())
