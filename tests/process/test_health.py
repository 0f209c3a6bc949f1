"""Health: `/ready` turns false while a process stands still and true once it is replaced; its stacks are in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from time import monotonic

import psutil
import pytest
from live import Live, serving
from pictures import noise, part, text
from preloaded import Preloaded

from polling import until

STALL_S = 3.0
RECOVERY_S = 60.0
"""Only tells progress from a hang; a group loads a model."""
seeds = count(95_000)


STUCK = """
import threading
from pathlib import Path

import setproctitle

from mmplane.process.child import Control

beats = Control.beat

def stands_here_for_good():
    threading.Event().wait()

def beat(self):
    whom = Path({whom!r})
    if whom.exists() and whom.read_text() == setproctitle.getproctitle():
        stands_here_for_good()
    beats(self)

Control.beat = beat
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A process whose title stands in the file `whom` in here gets stuck."""
    path = tmp_path_factory.mktemp("stuck")
    (path / "sitecustomize.py").write_text(STUCK.format(whom=str(path / "whom")))
    return path


@pytest.fixture(scope="module")
def live(tiny_folder: Path, folder: Path) -> Iterator[Live]:
    flags = ("--stall-seconds", str(STALL_S), "--item-seconds", "1", "--log-format", "json")
    with (
        closing(Preloaded({"PYTHONPATH": str(folder)})) as stuck,
        serving(tiny_folder, *flags, preloaded=stuck) as one,
    ):
        yield one


def is_ready(live: Live) -> bool:
    return live.http.get("/ready").status_code == 200


def stop(live: Live, title: str) -> psutil.Process:
    """Stop it when a picture has just passed: `/ready` needs no probe then, which might wait for what is stopped."""
    process = live.processes()[title]
    assert live.chat([part(noise(next(seeds))), text("?")]).status_code == 200
    process.suspend()
    return process


def logged(live: Live, *words: str) -> dict[str, str] | None:
    """The newest line with all of these words."""
    lines = [json.loads(line) for line in live.log if line.startswith("{") and all(each in line for each in words)]
    return lines[-1] if lines else None


@pytest.mark.parametrize("title", ["worker 1", "worker 2", "rank 0/2", "rank 1/2", "parser"])
def test_one_that_is_stopped(title: str, live: Live) -> None:
    until(lambda: is_ready(live), RECOVERY_S, "it is ready")
    before = live.pids()
    stop(live, title)
    stopped_s = monotonic()
    until(lambda: not is_ready(live), RECOVERY_S, "not ready any more")
    took_s = monotonic() - stopped_s
    assert live.http.get("/health").status_code == 200
    until(lambda: live.pids().get(title, before[title]) != before[title], RECOVERY_S, "it is replaced")
    until(lambda: is_ready(live), RECOVERY_S, "it is ready again")
    print(f"{title}: not ready after {took_s:.1f} s, ready again after {monotonic() - stopped_s:.1f} s")
    assert live.chat([part(noise(before[title])), text("?")]).status_code == 200
    said = logged(live, f"(pid {before[title]})", "has made no progress")
    assert said is not None
    assert "State: T (stopped)" in said["stacks"]


def test_it_says_who(live: Live) -> None:
    until(lambda: is_ready(live), RECOVERY_S, "it is ready")
    stop(live, "worker 1")
    answer = until(lambda: (said := live.http.get("/ready")).status_code == 503 and said, RECOVERY_S, "not ready")
    assert "worker 1" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]
    until(lambda: is_ready(live), RECOVERY_S, "it is ready again")


def test_one_that_goes_on_is_not_replaced(live: Live) -> None:
    until(lambda: is_ready(live), RECOVERY_S, "it is ready")
    before = live.pids()
    worker = stop(live, "worker 2")
    until(lambda: not is_ready(live), RECOVERY_S, "it is noticed")
    worker.resume()
    until(lambda: is_ready(live), RECOVERY_S, "it is ready again")
    assert live.pids() == before


@pytest.mark.parametrize("title", ["rank 1/2", "worker 1", "parser"])
def test_one_that_is_stuck_says_where(title: str, folder: Path, live: Live) -> None:
    """Not stopped: it runs, and its loop does not turn."""
    until(lambda: is_ready(live), RECOVERY_S, "it is ready")
    before = live.pids()
    (folder / "whom").write_text(f"mmplane: {title}")
    said = until(lambda: logged(live, f"(pid {before[title]})", "stacks of"), RECOVERY_S, "its stacks")
    (folder / "whom").unlink()
    assert "stands_here_for_good" in said["stacks"]
    assert "process/nursery.py" in said["stacks"], "down to where it began"
    until(lambda: live.pids().get(title, before[title]) != before[title], RECOVERY_S, "it is replaced")
    until(lambda: is_ready(live), RECOVERY_S, "it is ready again")
