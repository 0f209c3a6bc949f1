"""A link over real sockets: records and descriptors in, and nothing but `LinkError` out, whatever the peer does."""

from __future__ import annotations

import array
import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import given, strategies

from mmplane.core import control, jobs, parsing, plan
from mmplane.core.control import Beat, Replace, ToFrontend, Unloadable, WorkerGone, WorkerUp
from mmplane.core.errors import Failure
from mmplane.core.records import MESSAGE_BYTES_MAX, Slot
from mmplane.wire import link as link_module
from mmplane.wire.link import DESCRIPTORS_MAX, Link, LinkError, PeerGone, PeerStalled, ProtocolError, encode, pair

HANG_S = 60.0
"""Only tells progress from a hang."""


class Ends(NamedTuple):
    """A link, and the bare socket of a peer that may send what it likes."""

    link: Link[Any]
    peer: socket.socket


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = pair()
    link: Link[Any] = Link(ours, ToFrontend)
    yield Ends(link, theirs)
    link.close()
    theirs.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def send_with_descriptors(peer: socket.socket, message: bytes, descriptors: list[int]) -> None:
    peer.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def test_a_record_arrives_and_nothing_after_it(ends: Ends) -> None:
    assert ends.link.receive_nowait() is None
    ends.peer.send(encode(WorkerGone(3, 7)))
    assert ends.link.receive_nowait() == (WorkerGone(3, 7), [])
    assert ends.link.receive_nowait() is None


def test_both_ends_of_a_pair_are_links() -> None:
    ours, theirs = (Link[Any](end, control.FromChild | control.ToFrontend) for end in pair())
    assert ours.send_nowait(Beat())
    assert theirs.send_nowait(WorkerUp(1, 2))
    assert theirs.receive_nowait() == (Beat(), [])
    assert ours.receive_nowait() == (WorkerUp(1, 2), [])
    ours.close()
    theirs.close()


def test_records_keep_their_order_and_their_borders(ends: Ends) -> None:
    sent = [WorkerGone(number, number * number) for number in range(500)]
    for record in sent:
        ends.peer.send(encode(record))
    assert [ends.link.receive_nowait() for _ in sent] == [(record, []) for record in sent]


def test_an_inherited_descriptor_makes_a_link() -> None:
    ours, theirs = pair()
    link: Link[Any] = Link(ours.detach(), ToFrontend)
    theirs.send(encode(WorkerUp(1, 1)))
    assert link.receive_nowait() == (WorkerUp(1, 1), [])
    link.close()
    with pytest.raises(BrokenPipeError):
        theirs.send(b"x")
    theirs.close()


# Descriptors.


def test_descriptors_ride_along_in_order_and_work(ends: Ends) -> None:
    pipes = [os.pipe() for _ in range(3)]
    sender: Link[Any] = Link(ends.peer.dup(), ToFrontend)
    sender.send_nowait(WorkerUp(1, 1), [write for _, write in pipes])
    received = ends.link.receive_nowait()
    assert received is not None
    record, descriptors = received
    assert record == WorkerUp(1, 1)
    for number, descriptor in enumerate(descriptors):
        os.write(descriptor, b"%d" % number)
    assert [os.read(read, 8) for read, _ in pipes] == [b"0", b"1", b"2"]
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors), "an exec must not take them along"
    for descriptor in (*descriptors, *(end for ends_of_one in pipes for end in ends_of_one)):
        os.close(descriptor)
    sender.close()


def test_descriptors_stay_with_their_record(ends: Ends) -> None:
    read, write = os.pipe()
    ends.peer.send(encode(WorkerGone(1, 1)))
    send_with_descriptors(ends.peer, encode(WorkerUp(2, 1)), [write])
    ends.peer.send(encode(WorkerGone(3, 1)))
    counts = [len(received[1]) for _ in range(3) if (received := ends.link.receive_nowait()) and not _close(received)]
    assert counts == [0, 1, 0]
    os.close(read)
    os.close(write)


def _close(received: tuple[Any, list[int]]) -> None:
    for descriptor in received[1]:
        os.close(descriptor)


def test_as_many_descriptors_as_are_promised(ends: Ends) -> None:
    send_with_descriptors(ends.peer, encode(WorkerUp(1, 1)), [0] * DESCRIPTORS_MAX)
    received = ends.link.receive_nowait()
    assert received is not None
    assert len(received[1]) == DESCRIPTORS_MAX
    _close(received)


def test_more_descriptors_than_are_promised_are_an_error_and_leak_nothing(ends: Ends) -> None:
    before = open_files()
    send_with_descriptors(ends.peer, encode(WorkerUp(1, 1)), [0] * (DESCRIPTORS_MAX + 16))
    with pytest.raises(ProtocolError):
        ends.link.receive_nowait()
    assert open_files() == before


def test_more_descriptors_than_are_promised_are_a_bug_in_the_sender(ends: Ends) -> None:
    with pytest.raises(AssertionError):
        ends.link.send_nowait(Beat(), [0] * (DESCRIPTORS_MAX + 1))


@pytest.mark.parametrize("junk", [b"junk", b"\x91\xa5" + b"\xff" * 5, b"x" * (MESSAGE_BYTES_MAX + 1)])
def test_descriptors_beside_junk_leak_nothing(ends: Ends, junk: bytes) -> None:
    before = open_files()
    send_with_descriptors(ends.peer, junk, [0, 1, 2])
    with pytest.raises(ProtocolError):
        ends.link.receive_nowait()
    assert open_files() == before


RECEIVERS = {
    "supervisor, of a child": (control.FromChild, Beat()),
    "supervisor, of the nursery": (control.FromNursery, control.Preloaded(1.0)),
    "front end, of the supervisor": (control.ToFrontend, WorkerGone(1, 1)),
    "front end, of a worker": (jobs.FromWorker, jobs.WorkerReady(b"")),
    "front end, of the parser": (parsing.FromParser, parsing.ParserReady()),
    "front end, of the leader": (plan.FromLeader, plan.Attached(1)),
    "leader, of the front end": (plan.ToLeader, plan.Abort(1)),
    "leader, of a follower": (plan.FromFollower, plan.Position(1, 1, b"")),
    "worker, of the front end": (jobs.ToWorker, jobs.Measure(1, 2, 3)),
}


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_descriptors_that_nobody_asked_for_are_closed(receiver: str) -> None:
    union, record = RECEIVERS[receiver]
    ours, theirs = pair()
    link: Link[Any] = Link(ours, union)
    before = open_files()
    for _ in range(50):
        send_with_descriptors(theirs, encode(record), [0] * DESCRIPTORS_MAX)
        assert link.receive_nowait() == (record, [])
    assert open_files() == before
    link.close()
    theirs.close()


def test_few_records_carry_descriptors_and_none_of_a_process_that_reads_what_strangers_send() -> None:
    modules = (control, jobs, parsing, plan)
    records = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    carrying = {each.__name__ for each in records if getattr(each, "carries", False)}
    assert carrying == {"Spawn", "Spawned", "WorkerUp", "RanksUp", "Attach", "Ends"}
    of_children = (*get_args(control.FromChild), *get_args(jobs.FromWorker), *get_args(parsing.FromParser))
    assert not any(each.carries for each in of_children)


def test_descriptors_of_messages_that_nobody_read_are_closed_with_the_link() -> None:
    ours, theirs = pair()
    read, write = os.pipe()
    send_with_descriptors(theirs, encode(WorkerUp(1, 1)), [write])
    os.close(write)
    ours.close()
    theirs.close()
    assert os.read(read, 1) == b"", "the last copy of the write end is gone"
    os.close(read)


# Waits.


@pytest.mark.parametrize("what", ["send", "receive"])
def test_time_in_which_all_are_frozen_is_not_waited(what: str, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process goes on first: the other one has had no time yet."""
    now_s, waits = 0.0, 0

    def wait(*_: object) -> None:
        nonlocal now_s, waits
        waits += 1
        now_s += 3600.0 if waits == 1 else 0.1
        if waits == 3 and what == "receive":
            ends.peer.send(encode(WorkerGone(1, 1)))
        elif waits == 3:
            ends.peer.recv(MESSAGE_BYTES_MAX)

    monkeypatch.setattr(link_module, "_wait", wait)
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    if what == "receive":
        assert ends.link.receive(limit_s=5.0) == (WorkerGone(1, 1), [])
    else:
        while ends.link.send_nowait(Unloadable("x" * 10_000)):
            pass
        ends.link.send(Unloadable("x" * 10_000), limit_s=5.0)
    assert waits == 3


# Bounds.


def test_the_largest_message_arrives(ends: Ends) -> None:
    room = MESSAGE_BYTES_MAX - len(encode(Unloadable("x" * 40_000))) + 40_000
    largest = Unloadable("x" * room)
    receiver: Link[Any] = Link(ends.peer.dup(), control.FromChild)
    assert len(encode(largest)) == MESSAGE_BYTES_MAX
    assert ends.link.send_nowait(largest)
    assert receiver.receive_nowait() == (largest, [])
    with pytest.raises(AssertionError, match="a control message of 65537 bytes"):
        ends.link.send_nowait(Unloadable("x" * (room + 1)))
    assert receiver.receive_nowait() is None, "nothing of it was sent"
    receiver.close()


@pytest.mark.parametrize("excess_bytes", [1, 2, 100_000])
def test_a_message_that_is_too_long_is_fatal(ends: Ends, excess_bytes: int) -> None:
    """Also when its first 64 KiB are a whole record."""
    message = encode(WorkerGone(1, 1))
    ends.peer.send(message + bytes(MESSAGE_BYTES_MAX - len(message) + excess_bytes))
    with pytest.raises(ProtocolError):
        ends.link.receive_nowait()


def test_a_full_socket_is_false_then_stalled_then_free_again(ends: Ends) -> None:
    sent = 0
    while ends.link.send_nowait(Unloadable(f"{sent:010}" * 1000)):
        sent += 1
    assert sent > 10, "there is room for a burst"
    with pytest.raises(PeerStalled):
        ends.link.send(Beat(), limit_s=0.01)
    assert ends.link.send_nowait(Unloadable("x" * 1000)) is False, "and it was not the last one that took the room"
    receiver: Link[Any] = Link(ends.peer.dup(), control.FromChild)
    for number in range(sent):
        assert receiver.receive_nowait() == (Unloadable(f"{number:010}" * 1000), [])
    assert receiver.receive_nowait() is None, "what was refused was not sent"
    assert ends.link.send_nowait(Beat())
    assert receiver.receive_nowait() == (Beat(), [])
    receiver.close()


def test_send_waits_for_a_reader(ends: Ends) -> None:
    while ends.link.send_nowait(Unloadable("x" * 10_000)):
        pass
    receiver: Link[Any] = Link(ends.peer.dup(), control.FromChild)

    def drain() -> None:
        while (received := receiver.receive(limit_s=HANG_S)) and received[0] != Beat():
            pass

    reader = Thread(target=drain)
    reader.start()
    ends.link.send(Beat(), limit_s=HANG_S)
    reader.join(HANG_S)
    assert not reader.is_alive()
    receiver.close()


def test_receive_waits_for_a_writer(ends: Ends) -> None:
    assert ends.link.receive(limit_s=0) is None
    writer = Thread(target=lambda: ends.peer.send(encode(WorkerGone(1, 1))))
    writer.start()
    assert ends.link.receive(limit_s=HANG_S) == (WorkerGone(1, 1), [])
    writer.join(HANG_S)


# Peers that go away.


def test_what_a_peer_said_before_it_went_still_counts(ends: Ends) -> None:
    ends.peer.send(encode(WorkerUp(1, 1)))
    ends.peer.close()
    assert ends.link.receive_nowait() == (WorkerUp(1, 1), [])
    for _ in range(2):
        with pytest.raises(PeerGone):
            ends.link.receive_nowait()


def test_sending_to_a_peer_that_went_is_an_error(ends: Ends) -> None:
    ends.peer.close()
    with pytest.raises(PeerGone):
        ends.link.send_nowait(Beat())
    with pytest.raises(PeerGone):
        ends.link.send(Beat(), limit_s=HANG_S)


def test_a_peer_that_goes_ends_a_wait_for_room(ends: Ends) -> None:
    while ends.link.send_nowait(Unloadable("x" * 10_000)):
        pass
    closer = Thread(target=ends.peer.close)
    closer.start()
    with pytest.raises(PeerGone):
        ends.link.send(Beat(), limit_s=HANG_S)
    closer.join(HANG_S)


def test_a_closed_link_is_gone(ends: Ends) -> None:
    ends.link.close()
    with pytest.raises(PeerGone):
        ends.link.send_nowait(Beat())
    with pytest.raises(PeerGone):
        ends.link.receive_nowait()


# Peers that lie.


def test_a_pickle_has_no_effect(ends: Ends, tmp_path: Path) -> None:
    """Hazard S1."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    frame = pickle.dumps(Payload())
    for message in (frame, encode(Unloadable("x")) + frame, b"\x91" + frame):
        ends.peer.send(message)
        with pytest.raises(ProtocolError):
            ends.link.receive_nowait()
    assert not (tmp_path / "owned").exists()
    pickle.loads(frame)
    assert (tmp_path / "owned").exists(), "and the test can fail"


def test_a_record_of_another_link_is_an_error(ends: Ends) -> None:
    ends.peer.send(encode(Replace(1, 1)))
    with pytest.raises(ProtocolError, match=r"^not a record of this link$"):
        ends.link.receive_nowait()


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"])
def test_text_that_is_not_utf_8_is_an_error(text: bytes) -> None:
    ours, theirs = pair()
    link: Link[Any] = Link(ours, control.FromChild)
    theirs.send(b"\x92\xaaunloadable" + bytes([0xA0 + len(text)]) + text)
    with pytest.raises(ProtocolError):
        link.receive_nowait()
    link.close()
    theirs.close()


def test_a_list_that_claims_to_be_endless_takes_no_memory(ends: Ends) -> None:
    for claim in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 60_000):
        ends.peer.send(claim)
        with pytest.raises(ProtocolError):
            ends.link.receive_nowait()


RECEIVED: dict[str, tuple[Any, bytes]] = {
    "nursery": (control.ToNursery, encode(control.Spawn(1, "rank", 0, 2, 3, 4, b"{}", ("control", "store")))),
    "supervisor": (control.FromChild, encode(Unloadable("the model cannot be served"))),
    "worker": (
        jobs.ToWorker,
        encode(
            jobs.Materialise(1, jobs.Recipe("image", jobs.Layout((), ((5, 3),), 9)), Slot(0, 0, 9, 1), Slot(1, 0, 9, 2))
        ),
    ),
    "frontend of worker": (jobs.FromWorker, encode(jobs.JobFailed(1, Failure(400, "code", "text")))),
    "leader": (
        plan.ToLeader,
        encode(plan.Submit(1, b"1234", None, 1, (), (), plan.Sampling(5, 1.0, 0.5, 1, 1))),
    ),
    "follower": (plan.Plan, encode(plan.Plan(1, (4, 5), (plan.Finish(1, 0, "stop"),), (2,), ()))),
    "frontend of leader": (plan.FromLeader, encode(plan.Tokens(1, (plan.Token(1, 0, 65, "length"),)))),
}


@pytest.mark.parametrize("role", RECEIVED)
def test_what_each_process_receives(role: str) -> None:
    receives, message = RECEIVED[role]
    assert encode(exchange(receives, message)) == message


@pytest.mark.parametrize("role", RECEIVED)
@given(data=strategies.data())
def test_accept_or_raise_our_own_error(role: str, data: Any) -> None:
    """Whatever bytes come: a record, or `LinkError`. Half of them are a real message with some bytes changed."""
    receives, message = RECEIVED[role]
    if data.draw(strategies.booleans()):
        message = data.draw(strategies.binary(max_size=300))
    else:
        changed = bytearray(message)
        for _ in range(data.draw(strategies.integers(1, 4))):
            changed[data.draw(strategies.integers(0, len(changed) - 1))] = data.draw(strategies.integers(0, 255))
        message = bytes(changed)
    with suppress(LinkError):
        assert encode(exchange(receives, message))


def exchange(receives: object, message: bytes) -> Any:
    """What a link makes of one message."""
    ours, theirs = pair()
    link: Link[Any] = Link(ours, receives)
    try:
        theirs.send(message)
        received = link.receive_nowait()
        assert received is not None
        return received[0]
    finally:
        link.close()
        theirs.close()
