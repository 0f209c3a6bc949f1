"""The supervisor's side: a scout is started with its link and nothing else, heard, and replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest

from mmplane.process.watched import Watched
from mmplane.ray import scouting
from mmplane.ray.records import FromScout, MachinesWanted, MachineUp, ReplicasAt
from mmplane.ray.scouting import Scouting
from mmplane.ray.wanted import Wanted, encoded
from mmplane.wire.link import Link, encode, pair

LIMIT_S = 60.0
WANTED = MachinesWanted(encoded((Wanted("media", ("worker",)),)))
REPLICAS = ReplicasAt((("10.0.0.2", 8000),))
PROGRAM = f"""
import os, sys
from mmplane.ray.records import MachinesWanted, ReplicasAt
from mmplane.wire.link import Link
descriptor = int(sys.argv[1])
others = [name for name in os.listdir("/proc/self/fd") if int(name) > 2 and os.path.exists("/proc/self/fd/" + name)]
link = Link(descriptor, MachinesWanted)
remembered = link.receive(limit_s=0.5)
with open(os.environ["TOLD"], "a") as file:
    kinds = sorted({{os.readlink("/proc/self/fd/" + name).partition(":")[0] for name in others}})
    print(len(others), *kinds, None if remembered is None else remembered[0] == {WANTED!r}, file=file)
link.send_nowait({WANTED!r})
link.send_nowait({REPLICAS!r})
"""


@pytest.fixture
def scout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scouting]:
    """With a stand-in that says once what is wanted, and ends."""
    (tmp_path / "stand_in_scout.py").write_text(PROGRAM)
    source = str(Path(scouting.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), source)))
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    made = Scouting("10.0.0.1:6379", "text", "info", module="stand_in_scout")
    yield made
    made.end()


def run(scout: Scouting, done: Callable[[], bool]) -> None:
    """As the supervisor does."""
    deadline_s = monotonic() + LIMIT_S
    while not done():
        assert monotonic() < deadline_s
        scout.reconcile()
        watched = Watched()
        scout.watch(watched)
        watched.wait(min(scout.due_s - monotonic(), 1.0))


def look(scout: Scouting, done: Callable[[], bool]) -> None:
    """As a router does."""
    deadline_s = monotonic() + LIMIT_S
    while not done():
        assert monotonic() < deadline_s
        scout.look()


def test_without_an_address_there_never_is_one() -> None:
    none = Scouting("", "text", "info")
    none.reconcile()
    assert (none.pid, none.due_s) == (0, float("inf"))
    none.end()


def test_the_next_scout_is_told_what_is_wanted_and_has_nothing_but_its_link(scout: Scouting, tmp_path: Path) -> None:
    told = tmp_path / "told"
    run(scout, lambda: told.exists() and len(told.read_text().splitlines()) >= 2)
    assert told.read_text().splitlines()[:2] == ["1 socket None", "1 socket True"]


def test_a_router_which_looks_now_and_then_knows_the_replicas(scout: Scouting) -> None:
    assert scout.replicas is None
    look(scout, lambda: scout.replicas is not None)
    assert scout.replicas == REPLICAS.replicas
    look(scout, lambda: not scout.pid)
    assert scout.replicas == REPLICAS.replicas, "without a scout they are still known"


@pytest.mark.parametrize("message", [b"", b"\xc0", b"\x91\xa5spawn", encode(MachineUp("a" * 257, "b"))])
def test_a_scout_that_says_anything_else_is_killed(message: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    one, killed = Scouting("10.0.0.1:6379", "text", "info"), []
    ours, theirs = pair()
    monkeypatch.setattr(one, "_link", Link(ours, FromScout))
    monkeypatch.setattr(one, "_handle", SimpleNamespace(kill=lambda: killed.append(True)))
    theirs.send(message)
    one._hear()
    assert killed == [True]
    ours.close()
    theirs.close()


def test_a_scout_that_has_ended_before_it_is_told_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended, and so did its end of the link, before the supervisor went on."""
    monkeypatch.setattr(scouting.subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=1))
    monkeypatch.setattr(scouting.Handle, "of_child", lambda _: SimpleNamespace(pid=1))
    scout = Scouting("10.0.0.1:6379", "text", "info")
    monkeypatch.setattr(scout, "_wanted", WANTED)
    scout.reconcile()
    assert scout.pid == 1
    assert scout._link is not None
    scout._link.close()


def test_scouts_that_say_nothing_are_started_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    scout, now_s = Scouting("10.0.0.1:6379", "text", "info"), 1000.0
    monkeypatch.setattr(scouting.time, "monotonic", lambda: now_s)
    starts = []

    def refuse() -> None:
        starts.append(now_s)
        raise OSError("no process")

    monkeypatch.setattr(scout, "_start", refuse)
    while now_s < 1300.0:
        scout.reconcile()
        now_s += 1.0
    waits = [second - first for first, second in pairwise(starts)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
