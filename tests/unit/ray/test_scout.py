"""A scout and its supervisor, without Ray: what is told, what is started and ended, what is kept for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from mmplane.ray.records import FromScout, MachineGone, MachinesWanted, MachineUp, ReplicasAt
from mmplane.ray.scout import AGAIN_S, Scout
from mmplane.ray.wanted import Node, Wanted, encoded, host_name
from mmplane.wire.link import Link, PeerGone, pair

NODES = [Node(f"node{number}", f"10.0.0.{number}", f"machine-{number}") for number in (1, 2, 3)]
MEDIA = Wanted("media", ("worker",), without="10.0.0.1")
SERVERS = Wanted("replica", ("serve",), 2, port=8000)


class Cluster:
    """One that does at once what it is asked."""

    def __init__(self) -> None:
        self.there = NODES[:2]
        self.written: tuple[Wanted, ...] | None = None
        self.running: set[str] = set()
        self.starts: list[str] = []

    def nodes(self) -> list[Node]:
        return list(self.there)

    def hosts(self) -> list[str]:
        return sorted(self.running)

    def wanted(self) -> tuple[Wanted, ...] | None:
        return self.written

    def want(self, each: tuple[Wanted, ...]) -> None:
        self.written = each

    def start(self, name: str, node: Node, each: Wanted) -> None:
        self.starts.append(name)
        self.running.add(name)

    def end(self, names: Sequence[str]) -> None:
        self.running -= set(names)


class Supervisor:
    """The other end of the link."""

    def __init__(self) -> None:
        ours, self.scouts = pair()
        self.link: Link[FromScout] = Link(ours, FromScout)

    def told(self) -> list[FromScout]:
        found = []
        while (received := self.link.receive_nowait()) is not None:
            found.append(received[0])
        return found


Scene = tuple[Scout, Cluster, Supervisor]


@pytest.fixture
def scene() -> Iterator[Callable[[], Scene]]:
    """Makes a scout, its cluster and its supervisor."""
    made = []

    def make() -> Scene:
        cluster, supervisor = Cluster(), Supervisor()
        made.append(supervisor)
        return Scout(cluster, Link(supervisor.scouts, MachinesWanted)), cluster, supervisor

    yield make
    for each in made:
        each.link.close()
        each.scouts.close()


def up(number: int) -> MachineUp:
    return MachineUp(f"10.0.0.{number}", f"machine-{number}")


def test_machines_that_come_and_go_are_told_once(scene: Callable[[], Scene]) -> None:
    scout, cluster, supervisor = scene()
    scout.look(0.0)
    scout.look(1.0)
    assert sorted(supervisor.told(), key=str) == [up(1), up(2)]
    cluster.there = [NODES[0], NODES[2]]
    scout.look(2.0)
    assert supervisor.told() == [MachineGone("10.0.0.2", "machine-2"), up(3)]


def test_nothing_is_started_or_ended_in_a_cluster_that_was_never_told(scene: Callable[[], Scene]) -> None:
    scout, cluster, _ = scene()
    cluster.running = {"media-node2-x"}
    scout.look(0.0)
    assert (cluster.starts, cluster.running, cluster.written) == ([], {"media-node2-x"}, None)


def test_a_machine_that_joins_gets_its_host(scene: Callable[[], Scene]) -> None:
    scout, cluster, _ = scene()
    cluster.written = (MEDIA,)
    scout.look(0.0)
    assert cluster.starts == [host_name(MEDIA, NODES[1])]
    cluster.there = NODES
    scout.look(1.0)
    assert cluster.starts == [host_name(MEDIA, node) for node in NODES[1:]]


def test_after_down_everything_ends_and_nothing_comes_back(scene: Callable[[], Scene]) -> None:
    scout, cluster, supervisor = scene()
    cluster.written = (MEDIA,)
    scout.look(0.0)
    cluster.written = ()
    scout.look(1.0)
    scout.look(1000.0)
    assert (cluster.running, len(cluster.starts)) == (set(), 1)
    told = [each for each in supervisor.told() if isinstance(each, MachinesWanted)]
    assert told == [MachinesWanted(encoded((MEDIA,))), MachinesWanted(encoded(()))]


def test_a_host_that_does_not_stay_is_not_started_all_the_time(scene: Callable[[], Scene]) -> None:
    scout, cluster, _ = scene()
    cluster.written = (MEDIA,)
    for now_s in (0.0, 2.0, AGAIN_S - 1):
        scout.look(now_s)
        cluster.running.clear()
    assert len(cluster.starts) == 1
    scout.look(AGAIN_S)
    assert len(cluster.starts) == 2


def test_a_new_cluster_is_told_what_was_wanted_of_the_last(scene: Callable[[], Scene]) -> None:
    scout, cluster, supervisor = scene()
    supervisor.link.send_nowait(MachinesWanted(encoded((MEDIA,))))
    scout.look(0.0)
    assert cluster.written == (MEDIA,)
    assert cluster.starts == [host_name(MEDIA, NODES[1])]


def test_what_was_written_meanwhile_counts_more_than_what_the_supervisor_remembers(scene: Callable[[], Scene]) -> None:
    scout, cluster, supervisor = scene()
    cluster.written = ()
    supervisor.link.send_nowait(MachinesWanted(encoded((MEDIA,))))
    scout.look(0.0)
    assert (cluster.written, cluster.starts) == ((), [])
    assert MachinesWanted(encoded(())) in supervisor.told()


def replicas(supervisor: Supervisor) -> list[list[str]]:
    """Addresses of replicas, each time they are told."""
    told = [each.replicas for each in supervisor.told() if isinstance(each, ReplicasAt)]
    assert all(port == 8000 for each in told for _, port in each)
    return [[address for address, _ in each] for each in told]


def test_replicas_are_told_when_they_change(scene: Callable[[], Scene]) -> None:
    scout, cluster, supervisor = scene()
    scout.look(0.0)
    assert replicas(supervisor) == [], "a cluster that was never told runs none that is known"
    cluster.written, cluster.there = (SERVERS, MEDIA), NODES[:1]
    for now_s in (1.0, 2.0, 3.0):
        scout.look(now_s)
    assert replicas(supervisor) == [[], ["10.0.0.1"]]
    cluster.there = NODES
    for now_s in (4.0, 5.0):
        scout.look(now_s)
    ((first, second),) = replicas(supervisor)
    assert first == "10.0.0.1", "it stays where it is"
    cluster.there = [node for node in NODES if node.address != second]
    scout.look(6.0)
    assert replicas(supervisor) == [["10.0.0.1"]], "a machine is gone"
    cluster.written = ()
    scout.look(7.0)
    assert replicas(supervisor) == [[]]


def test_without_a_supervisor_there_is_no_scout(scene: Callable[[], Scene]) -> None:
    scout, _, supervisor = scene()
    supervisor.link.close()
    with pytest.raises(PeerGone):
        scout.look(0.0)
