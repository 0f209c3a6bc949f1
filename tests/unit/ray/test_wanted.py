"""What has to start and to end on the machines of a cluster, for what is wanted and what is there."""

from __future__ import annotations

import pytest

from mmplane.ray.wanted import Due, Node, Wanted, decoded, due, encoded, host_name, node_of, replaced, replicas

MEDIA = Wanted("media", ("worker", "--join", "10.0.0.1:9100"), without="10.0.0.1")
REPLICAS = Wanted("replica", ("serve", "--tp", "2"), machines_max=2, port=8000)
NODES = [Node(f"node{number}", f"10.0.0.{number}", f"machine-{number}") for number in range(1, 5)]


def names(wanted: Wanted, *numbers: int) -> list[str]:
    return [host_name(wanted, NODES[number - 1]) for number in numbers]


def test_every_machine_but_the_servers_makes_media() -> None:
    differs = due([MEDIA], NODES, [])
    assert differs.start == {host_name(MEDIA, node): (node, MEDIA) for node in NODES[1:]}
    assert differs.end == []


def test_what_is_there_stays_and_a_machine_that_joins_is_added() -> None:
    there = names(MEDIA, 2, 3)
    assert due([MEDIA], NODES[:3], there) == Due({}, [])
    assert list(due([MEDIA], NODES, there).start) == names(MEDIA, 4)


def test_a_machine_that_came_back_is_another_one() -> None:
    back = Node("other", NODES[1].address, NODES[1].name)
    differs = due([MEDIA], [NODES[0], back], names(MEDIA, 2))
    assert list(differs.start) == [host_name(MEDIA, back)]
    assert differs.end == names(MEDIA, 2)


def test_another_command_line_is_another_host() -> None:
    other = Wanted("media", ("worker", "--join", "10.0.0.9:9100"), without="10.0.0.1")
    differs = due([other], NODES[:2], names(MEDIA, 2))
    assert (list(differs.start), differs.end) == (names(other, 2), names(MEDIA, 2))


def test_replicas_are_as_many_as_asked_for_and_keep_their_machines() -> None:
    assert len(due([REPLICAS], NODES, []).start) == 2
    assert due([REPLICAS], NODES, names(REPLICAS, 3, 4)) == Due({}, [])
    assert len(due([REPLICAS], NODES, names(REPLICAS, 4)).start) == 1
    assert len(due([REPLICAS], NODES, names(REPLICAS, 1, 2, 3)).end) == 1


def test_replicas_are_where_their_actors_are() -> None:
    there = [*names(REPLICAS, 2, 4), *names(MEDIA, 3)]
    assert replicas([MEDIA, REPLICAS], NODES, there) == [("10.0.0.2", 8000), ("10.0.0.4", 8000)]
    assert replicas([MEDIA, REPLICAS], NODES[:3], there) == [("10.0.0.2", 8000)], "a machine is gone"
    assert replicas([MEDIA], NODES, there) == [], "they are no longer wanted"
    anywhere = Wanted("replica", REPLICAS.words, machines_max=2)
    assert replicas([anywhere], NODES, there) == [], "nobody knows their port"


def test_nothing_wanted_ends_everything() -> None:
    assert due([], NODES, names(MEDIA, 2, 3)) == Due({}, sorted(names(MEDIA, 2, 3)))


def test_a_new_wish_replaces_the_one_of_its_kind_alone() -> None:
    other = Wanted("media", ("worker",))
    assert replaced((MEDIA, REPLICAS), other) == (REPLICAS, other)
    assert replaced((), MEDIA) == (MEDIA,)


def test_it_is_read_as_it_was_written_and_nothing_else_is() -> None:
    assert decoded(encoded((MEDIA, REPLICAS))) == (MEDIA, REPLICAS)
    assert decoded(encoded(())) == ()
    for content in (b"", b"\xc1", encoded((MEDIA, MEDIA, MEDIA)), encoded((Wanted("media", ()),))):
        with pytest.raises(ValueError, match="mmplane ray up again"):
            decoded(content)


def test_a_host_says_where_it_is() -> None:
    assert [node_of(name) for name in names(MEDIA, 1, 4)] == ["node1", "node4"]
