"""What the supervisor does between two deaths of one group, which no real kill can be held at."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from mmplane.children import GROUP, RANKS
from mmplane.config import Config
from mmplane.core.control import (
    Drain,
    Drained,
    Ends,
    Meeting,
    RanksGone,
    RanksReady,
    Ready,
    Serving,
    Spawn,
    Unloadable,
)
from mmplane.core.keyring import Keyring
from mmplane.core.records import Record
from mmplane.process.handle import Child
from mmplane.supervise import STARTS_MAX, Supervisor
from mmplane.wiring import Cluster, Wiring


class Ended:
    """A handle of a process that is ending, the link to it, and its stacks."""

    pid = incarnation = pidfd = 1
    crashed = False

    def __init__(self) -> None:
        self.told: list[Record] = []

    def kill(self) -> None: ...
    def reap(self) -> None: ...
    def close(self) -> None: ...

    def written(self) -> str:
        return ""

    def receive_nowait(self) -> None:
        return None

    def send(self, record: Record, *_: Any, limit_s: float) -> None:
        self.told.append(record)


def child(role: str, index: int) -> Child:
    end: Any = Ended()
    return Child(role, index, end, end, end, ready=True)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    config = Config(
        model="tiny", model_folder="", served_name="tiny", device="cpu", tp=2, workers=0, arena_bytes=1 << 20
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Supervisor(config, Wiring(config, Keyring(), listener), on_serving=lambda: None)
        yield made
        made._end_everything()


def test_a_new_front_end_is_not_attached_to_a_group_whose_leader_has_died(supervisor: Supervisor) -> None:
    leader, follower = child("rank", 0), child("rank", 1)
    supervisor._children.ranks = {0: leader, 1: follower}
    supervisor._children.workers = {0: child("parser", 0)}
    supervisor._children._ranks_ready = RanksReady(1, "float32")
    supervisor._children.head, supervisor._children._epoch = child("frontend", 0), 2
    supervisor._gone(leader)
    supervisor._reconcile_children()
    told = cast("Ended", supervisor._children.head.link).told
    assert told == [], "nothing to attach it to"
    supervisor._gone(follower)
    assert len(told) == 1, "it is told that they are gone"
    assert supervisor._children._ranks_ready is None
    supervisor._children.head, supervisor._children.workers = None, {}


def working(supervisor: Supervisor, *, ranks: int = 2, workers: int = 0) -> None:
    """All are there and were ready."""
    supervisor._served = True
    supervisor._children.head, supervisor._children._epoch = child("frontend", 0), 1
    beside = {index: child("worker", index) for index in range(1, workers + 1)}
    supervisor._children.workers = {0: child("parser", 0), **beside}
    supervisor._children.ranks = {rank: child("rank", rank) for rank in range(ranks)}
    for name in {each.name for each in supervisor._children.all() if each.role != "rank"} | {RANKS}:
        supervisor._restarts.started(name)
        supervisor._restarts.ready(name)


def waits(supervisor: Supervisor) -> bool:
    return supervisor._restarts.due_s(time.monotonic()) != float("inf")


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_the_first_restart_of_a_group_is_at_once(ranks: int, supervisor: Supervisor) -> None:
    working(supervisor, ranks=ranks)
    for rank in list(supervisor._children.ranks.values()):
        supervisor._gone(rank)
    assert not waits(supervisor)
    supervisor._children.head, supervisor._children.workers = None, {}


def test_the_first_restart_of_workers_is_at_once_also_beside_their_front_end(supervisor: Supervisor) -> None:
    working(supervisor, workers=8)
    assert supervisor._children.head is not None
    supervisor._gone(supervisor._children.head)
    for worker in list(supervisor._children.workers.values()):
        supervisor._gone(worker)
    assert not waits(supervisor)
    supervisor._children.ranks = {}


@pytest.mark.parametrize("role", ["frontend", "worker", "parser", "rank"])
@pytest.mark.parametrize("served", [False, True])
def test_what_never_gets_ready_ends_a_server_that_has_never_served(
    role: str, served: bool, supervisor: Supervisor
) -> None:
    working(supervisor, workers=1)
    supervisor._served = served
    victim = child(role, 1 if role == "worker" else 0)
    for _ in range(STARTS_MAX):
        assert supervisor._exit_code is None
        name = RANKS if role == "rank" else victim.name
        supervisor._restarts.started(name)
        if role == "frontend":
            supervisor._children.head = victim
        else:
            (supervisor._children.ranks if role == "rank" else supervisor._children.workers)[victim.index] = victim
        supervisor._gone(victim)
    assert supervisor._exit_code == (None if served else 1)
    assert waits(supervisor)
    supervisor._children.head, supervisor._children.workers, supervisor._children.ranks = None, {}, {}


@pytest.mark.parametrize("served", [False, True])
def test_what_cannot_be_loaded_ends_a_server_that_has_never_served(served: bool, supervisor: Supervisor) -> None:
    supervisor._served = served
    supervisor._heard(child("frontend", 0), Unloadable("the folder cannot be read"))
    assert supervisor._exit_code == (None if served else 2)


@pytest.mark.parametrize("crashed", [False, True])
def test_only_a_rank_that_crashes_while_it_probes_is_given_copies(
    crashed: bool, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that is killed, with its group or by the system."""
    monkeypatch.setattr(Ended, "crashed", crashed)
    working(supervisor)
    rank = supervisor._children.ranks[1]
    rank.probing = True
    supervisor._gone(rank)
    assert supervisor._children._copy_features is crashed
    supervisor._children.head, supervisor._children.workers, supervisor._children.ranks = None, {}, {}


@pytest.mark.parametrize("refused", range(6))
def test_a_refused_start_is_tried_again(refused: int, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the processes it is: parser, two ranks, or the front end before them."""
    spawns = 0

    def spawn(spawn: Spawn, _: dict[str, int]) -> Child:
        nonlocal spawns
        spawns += 1
        if spawns == refused:
            raise OSError("the system refuses another process")
        return child(spawn.role, spawn.index)

    monkeypatch.setattr(supervisor._nursery, "spawn", spawn)
    monkeypatch.setattr("mmplane.process.restarts.BACKOFF_FIRST_S", 0.0)
    for _ in range(3):
        supervisor._reconcile_children()
        if len(supervisor._children.ranks) == 1:  # the other was refused: they were killed
            supervisor._gone(supervisor._children.ranks[0])
    assert supervisor._exit_code is None
    assert supervisor._children.head is not None
    assert (list(supervisor._children.workers), list(supervisor._children.ranks)) == ([0], [0, 1])
    supervisor._children.head, supervisor._children.workers, supervisor._children.ranks = None, {}, {}


@pytest.fixture
def beside() -> Iterator[Supervisor]:
    """Of a sidecar with a worker and two render processes; all are there, and the keeper alone is ready."""
    config = Config(
        model="tiny",
        model_folder="",
        served_name="tiny",
        kind="sidecar",
        workers=1,
        arena_bytes=4 << 20,
        render_processes=2,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Supervisor(config, Wiring(config, Keyring(), listener, http=listener), on_serving=lambda: None)
        made._children.head, made._children._epoch = child("keeper", 0), 1
        made._children.workers = {1: child("worker", 1)}
        made._children.renders = {index: child("render", index) for index in (1, 2)}
        yield made
        made._children.head, made._children.workers, made._children.renders = None, {}, {}
        made._end_everything()


def test_a_sidecar_is_ready_when_its_render_processes_are(beside: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(beside, "_on_serving", lambda: said.append("ready"))
    for render in beside._children.renders.values():
        render.ready = False
    assert beside._children.head is not None
    beside._heard(beside._children.head, Serving())
    beside._heard(beside._children.renders[1], Ready())
    assert said == []
    beside._heard(beside._children.renders[2], Ready())
    beside._heard(beside._children.renders[2], Ready())
    assert said == ["ready"]


def test_a_render_process_that_ended_is_replaced_alone(beside: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, int, set[str]]] = []

    def spawn(spawn: Spawn, descriptors: dict[str, int]) -> Child:
        started.append((spawn.role, spawn.index, set(descriptors)))
        return child(spawn.role, spawn.index)

    monkeypatch.setattr(beside._nursery, "spawn", spawn)
    beside._gone(beside._children.renders[2])
    beside._reconcile_children()
    assert started == [("render", 2, {"listener", "keyring", "tally"})]
    assert cast("Any", beside._children.head).link.told == []


def test_a_sidecar_ends_once_its_render_processes_have_finished(beside: Supervisor) -> None:
    beside._signalled(bytes([signal.SIGTERM]))
    children = [each for each in beside._children.all() if each.role != "worker"]
    assert len(children) == 3
    for each in children:
        assert each.speaks
        assert [type(record) for record in cast("Any", each).link.told] == [Drain]
    for each in children[:2]:
        beside._reconcile()
        assert beside._exit_code is None
        beside._heard(each, Drained())
    beside._gone(children[2])
    beside._reconcile()
    assert beside._exit_code == 0


def test_the_front_end_hears_of_every_process_and_only_when_that_has_changed(supervisor: Supervisor) -> None:
    supervisor._children.head = front = child("frontend", 0)
    supervisor._children.ranks = {0: child("rank", 0)}
    supervisor._children.tell_who_runs()
    supervisor._children.tell_who_runs()
    del supervisor._children.ranks[0]
    supervisor._children.tell_who_runs()
    supervisor._children.head = None
    told = [[each.role for each in record.running] for record in cast("Any", front.link).told]
    assert told == [["supervisor", "frontend", "rank"], ["supervisor", "frontend"]]


# Ranks on several machines.


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Of a server with two ranks here and four on two other machines; the head and the parser are there."""
    config = Config(
        model="tiny",
        model_folder="",
        served_name="tiny",
        device="cpu",
        tp=6,
        nodes=3,
        workers=0,
        arena_bytes=1 << 20,
    )
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as listener:
        wiring = Wiring(config, Keyring(), http, cluster=Cluster(bytes(32), listener))
        made = Supervisor(config, wiring, on_serving=lambda: None)
        made._children.head, made._children._epoch = child("frontend", 0), 1
        made._children.workers = {0: child("parser", 0)}
        monkeypatch.setattr(
            made._nursery, "spawn", lambda spawn, _: replace(child(spawn.role, spawn.index), ready=False)
        )
        yield made
        made._children.head, made._children.workers = None, {}
        made._children.ranks, made._children.stand_ins = {}, {}
        made._end_everything()


def told(each: Child | None) -> list[Record]:
    assert each is not None
    return cast("Ended", each.link).told


def joined(supervisor: Supervisor) -> None:
    """All machines have joined, and the group has started."""
    supervisor._reconcile_children()
    for stand_in in supervisor._children.stand_ins.values():
        supervisor._heard(stand_in, Ready())
    supervisor._reconcile_children()
    assert list(supervisor._children.ranks) == [0, 1]


def test_a_group_starts_when_all_machines_have_joined(nodes: Supervisor) -> None:
    nodes._reconcile_children()
    assert list(nodes._children.stand_ins) == [1, 2]
    nodes._heard(nodes._children.stand_ins[2], Ready())
    nodes._reconcile_children()
    assert nodes._children.ranks == {}
    nodes._heard(nodes._children.stand_ins[1], Ready())
    nodes._reconcile_children()
    assert list(nodes._children.ranks) == [0, 1]
    (first,), (second,) = (told(nodes._children.stand_ins[machine]) for machine in (1, 2))
    assert isinstance(first, Ends)
    assert isinstance(second, Ends)
    assert (first.meeting.first, first.meeting.ranks, second.meeting.first) == (2, 2, 4)
    assert first.meeting.port == second.meeting.port


def test_a_machine_that_is_lost_before_the_group_starts_is_waited_for_alone(nodes: Supervisor) -> None:
    nodes._reconcile_children()
    first, second = nodes._children.stand_ins.values()
    nodes._heard(first, Ready())
    nodes._gone(first)
    nodes._reconcile_children()
    assert nodes._children.stand_ins[1] is not first
    assert nodes._children.stand_ins[2] is second
    assert nodes._children.ranks == {}


@pytest.mark.parametrize("first", ["rank 0", "rank 1", "stand-in 1", "stand-in 2"])
def test_whichever_ends_first_the_group_ends_and_starts_as_a_whole(first: str, nodes: Supervisor) -> None:
    joined(nodes)
    incarnation = nodes._children._group
    group = [*nodes._children.ranks.values(), *nodes._children.stand_ins.values()]
    group.sort(key=lambda each: each.name != first)
    for each in group:
        assert not any(isinstance(record, RanksGone) for record in told(nodes._children.head))
        nodes._gone(each)
        if each is not group[-1]:
            nodes._reconcile_children()
            assert all(left in group for left in nodes._children.all() if left.role in GROUP), "none starts beside it"
    gone = [record for record in told(nodes._children.head) if isinstance(record, RanksGone)]
    assert gone == [RanksGone(incarnation)], "that of the ranks, whichever was the last to end"
    joined(nodes)
    assert nodes._children._group != incarnation


def test_a_group_whose_start_is_refused_is_started_again(nodes: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes._reconcile_children()
    spawn, refusals = nodes._nursery.spawn, [OSError("the system refuses another process")]

    def refuse(each: Spawn, given: dict[str, int]) -> Child:
        if refusals:
            raise refusals.pop()
        return spawn(each, given)

    for stand_in in nodes._children.stand_ins.values():
        nodes._heard(stand_in, Ready())
    monkeypatch.setattr(nodes._nursery, "spawn", refuse)
    monkeypatch.setattr("mmplane.process.restarts.BACKOFF_FIRST_S", 0.0)
    nodes._reconcile_children()
    assert nodes._children.ranks == {}
    nodes._reconcile_children()
    assert list(nodes._children.ranks) == [0, 1]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Of a machine with the second two of four ranks."""
    config = Config(
        model="tiny",
        model_folder="",
        served_name="machine",
        kind="node",
        device="cpu",
        tp=4,
        nodes=2,
        workers=1,
        arena_bytes=4 << 20,
    )
    made = Supervisor(config, Wiring(config, Keyring(), None, cluster=Cluster(bytes(32))), on_serving=lambda: None)
    monkeypatch.setattr(made._nursery, "spawn", lambda spawn, _: child(spawn.role, spawn.index))
    yield made
    made._children.head, made._children.ranks = None, {}
    made._end_everything()


def test_the_ranks_of_a_node_start_when_its_server_says_so_and_end_with_the_node(node: Supervisor) -> None:
    node._reconcile_children()
    head = node._children.head
    assert head is not None
    assert [each.name for each in node._children.all()] == ["node"], "no workers, and no ranks yet"
    node._heard(head, Meeting("10.0.0.1", 9000, "10.0.0.2", 2, 2))
    node._reconcile_children()
    assert list(node._children.ranks) == [2, 3]
    assert [type(record) for record in told(head)] == [Ends]
    node._gone(head)
    node._reconcile_children()
    assert node._children.head is None, "not before its ranks have ended"
    for rank in list(node._children.ranks.values()):
        node._gone(rank)
    node._reconcile_children()
    assert [each.name for each in node._children.all()] == ["node"]


def test_a_group_that_was_ready_on_this_machine_may_be_lost_any_number_of_times(
    node: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmplane.process.restarts.BACKOFF_FIRST_S", 0.0)
    for _ in range(2 * STARTS_MAX):
        node._reconcile_children()
        assert node._children.head is not None
        node._heard(node._children.head, Ready())
        node._heard(node._children.head, Meeting("10.0.0.1", 9000, "10.0.0.2", 2, 2))
        node._reconcile_children()
        for rank in node._children.ranks.values():
            node._heard(rank, Ready())
        for child in [*node._children.ranks.values(), node._children.head]:
            node._gone(child)
    assert node._exit_code is None
