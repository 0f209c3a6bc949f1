"""The links of leader and followers, on one machine and relayed between two: the same suite for both."""

from __future__ import annotations

import os
import pickle
import queue
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from threading import Thread
from typing import Any, NamedTuple

import pytest

from mmplane.core.control import Replace
from mmplane.core.plan import Abort, FromFollower, Plan, Position
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.machines.channel import SILENCE_SECONDS
from mmplane.machines.records import Pulse
from mmplane.nodes.records import Passed
from mmplane.nodes.relay import Relay
from mmplane.wire.framed import Framed
from mmplane.wire.group import GroupLinks
from mmplane.wire.link import Link, LinkError, PeerGone, PeerStalled, ProtocolError, encode, pair

HANG_S = 60.0
"""Only tells progress from a hang."""
LEADER, FOLLOWER = range(2)


class Ends(NamedTuple):
    """The leader's end and the follower's."""

    leader: socket.socket
    follower: socket.socket
    lost: queue.Queue[str]
    """What relays say when they have ended."""


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def relayed(kind: str, silence_s: float = SILENCE_SECONDS) -> Ends:
    """The link of a leader and a follower on another machine: two pairs, with two relays between them."""
    lost: queue.Queue[str] = queue.Queue()
    make = pair if kind == "records" else lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (leader, near), (far, follower) = make(), make()
    for stream, end in zip(connected(), (near, far), strict=True):
        framed: Framed[Any] = Framed(stream, Passed | Pulse, silence_s=silence_s)
        Relay(framed, [end], limit_s=HANG_S, lost=lost.put).start()
    return Ends(leader, follower, lost)


@pytest.fixture(params=["on one machine", "on two machines"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    two = request.param == "on two machines"
    made = relayed("records") if two else Ends(*pair(), queue.Queue())
    yield made
    made.leader.close()
    made.follower.close()
    if two:
        assert all(made.lost.get(timeout=HANG_S) for _ in range(2)), "both relays end, and say why"


def received(link: Link[Any]) -> Any:
    found = link.receive(limit_s=HANG_S)
    assert found is not None
    assert found[1] == [], "no descriptors"
    return found[0]


def plan(number: int) -> Plan:
    return Plan(number, (number,) * 1000, (), (), ())


def test_plans_arrive_in_order_and_answers_too(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    follower: Link[Any] = Link(ends.follower, Plan)
    for number in range(300):
        leader.send(plan(number), limit_s=HANG_S)
        assert received(follower) == plan(number)
        follower.send(Position(1, number, b"x"), limit_s=HANG_S)
        assert received(leader) == Position(1, number, b"x")


def test_a_burst_in_both_directions_keeps_its_borders(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    follower: Link[Any] = Link(ends.follower, Plan)

    def answer() -> None:
        for number in range(500):
            follower.send(Position(1, number, b"x" * number), limit_s=HANG_S)

    sender = Thread(target=answer)
    sender.start()
    for number in range(500):
        leader.send(plan(number), limit_s=HANG_S)
    assert [received(leader) for _ in range(500)] == [Position(1, number, b"x" * number) for number in range(500)]
    assert [received(follower) for _ in range(500)] == [plan(number) for number in range(500)]
    sender.join(HANG_S)


def test_the_largest_message_arrives(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    empty = len(encode(Position(1, 1, b"x" * 60_000))) - 60_000
    largest = Position(1, 1, b"x" * (MESSAGE_BYTES_MAX - empty))
    assert len(encode(largest)) == MESSAGE_BYTES_MAX
    Link[Any](ends.follower, Plan).send(largest, limit_s=HANG_S)
    assert received(leader) == largest


def test_a_message_that_is_too_long_ends_the_link(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    ends.follower.send(encode(Position(1, 1, b"")) + bytes(MESSAGE_BYTES_MAX))
    with pytest.raises((ProtocolError, PeerGone)):
        received(leader)


@pytest.mark.parametrize("what", ["record of another link", "pickle", "junk", "endless list"])
def test_what_is_no_record_of_the_link_ends_it(what: str, ends: Ends) -> None:
    sent = {
        "record of another link": encode(Replace(1, 1)),
        "pickle": pickle.dumps(Abort(1).__class__.__name__),
        "junk": b"junk",
        "endless list": b"\xdd\xff\xff\xff\xff",
    }
    leader: Link[Any] = Link(ends.leader, FromFollower)
    ends.follower.send(sent[what])
    with pytest.raises(ProtocolError):
        received(leader)


@pytest.mark.parametrize("who", [LEADER, FOLLOWER])
def test_what_a_peer_said_before_it_went_still_counts(who: int, ends: Ends) -> None:
    dying, living = ends[who], ends[1 - who]
    for number in range(20):
        dying.send(encode(Position(1, number, b"")))
    dying.close()
    link: Link[Any] = Link(living, FromFollower)
    assert [received(link) for _ in range(20)] == [Position(1, number, b"") for number in range(20)]
    with pytest.raises(PeerGone):
        received(link)


def test_a_peer_that_does_not_read_is_stalled(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    with pytest.raises(PeerStalled):
        fill(leader)


def fill(leader: Link[Any]) -> None:
    for number in range(100_000):
        leader.send(plan(number), limit_s=0.2)


def test_a_peer_that_goes_ends_a_wait_for_room(ends: Ends) -> None:
    leader: Link[Any] = Link(ends.leader, FromFollower)
    with pytest.raises(PeerStalled):
        fill(leader)
    ends.follower.close()
    with pytest.raises(PeerGone):
        fill(leader)


# What only a relay can meet.


@pytest.mark.parametrize(
    "sent",
    [Passed(1, 8), Passed(0, MESSAGE_BYTES_MAX + 1), Passed(0, 0), Abort(1)],
    ids=["end", "long", "empty", "other"],
)
def test_a_machine_that_sends_something_else_is_lost(sent: Any) -> None:
    ours, theirs = connected()
    local, near = pair()
    lost: queue.Queue[str] = queue.Queue()
    stream: Framed[Any] = Framed(ours, Passed | Pulse, silence_s=SILENCE_SECONDS)
    Relay(stream, [near], limit_s=HANG_S, lost=lost.put).start()
    with closing(Framed[Any](theirs, Passed | Pulse, silence_s=HANG_S)) as peer:
        peer.send(sent, [memoryview(bytes(8))])
        assert lost.get(timeout=HANG_S)
        with pytest.raises(LinkError):
            ended(peer)
    with pytest.raises(PeerGone):
        received(Link(local, Plan))
    local.close()


def ended(peer: Framed[Any]) -> None:
    while True:
        peer.receive()


def test_a_machine_that_is_silent_is_lost() -> None:
    ours, theirs = connected()
    local, near = pair()
    lost: queue.Queue[str] = queue.Queue()
    Relay(Framed(ours, Passed | Pulse, silence_s=0.2), [near], limit_s=HANG_S, lost=lost.put).start()
    assert "for too long" in lost.get(timeout=HANG_S)
    local.close()
    theirs.close()


def test_idle_links_stay() -> None:
    """Each relay sends a pulse when there is nothing else: longer than the other one waits."""
    made = relayed("records", silence_s=1.5)
    with pytest.raises(queue.Empty):
        made.lost.get(timeout=2.5)
    leader: Link[Any] = Link(made.leader, FromFollower)
    made.follower.send(encode(Position(1, 1, b"")))
    assert received(leader) == Position(1, 1, b"")
    made.leader.close()
    made.follower.close()


@pytest.mark.parametrize(("size", "machines"), [(2, 2), (4, 2), (6, 3)])
def test_the_machines_of_a_group_have_matching_ends(size: int, machines: int) -> None:
    """What a rank of the server sends to one elsewhere comes out there, if each end is joined to that of its number."""
    each = size // machines
    ranks = [range(machine * each, (machine + 1) * each) for machine in range(machines)]
    names = [("follower{}", "leader"), *(("sums{}", f"sums{rank}") for rank in ranks[0])]
    with closing(GroupLinks(size)) as here:
        for away in ranks[1:]:
            with closing(GroupLinks(size, away)) as there:
                for rank in away:
                    for sender, (ours, theirs) in enumerate(names, -1):
                        message = f"{sender} {rank}".encode()
                        os.write(here.of(max(0, sender))[ours.format(rank)], message)
                        passed(here, there, away)
                        assert os.read(there.of(rank)[theirs], 99) == message


def passed(here: GroupLinks, there: GroupLinks, away: range) -> None:
    """Do what two relays do."""
    for (near, _), (_, far) in zip(here.crossing(away), there.crossing(away), strict=True):
        near.setblocking(False)
        with suppress(BlockingIOError):
            far.send(near.recv(99))
