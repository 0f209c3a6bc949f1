"""Records and bytes over a stream: what is too long, cut off or silent ends it, and nothing is allocated for it."""

from __future__ import annotations

import socket
import time
import tracemalloc
from collections.abc import Iterator
from threading import Thread
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies

from mmplane.core.control import Beat, FromChild, Unloadable
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.wire.framed import LENGTH, Framed
from mmplane.wire.link import LinkError, PeerGone, PeerStalled, ProtocolError, encode

HANG_S = 60.0


class Ends(NamedTuple):
    stream: Framed[Any]
    peer: socket.socket


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.settimeout(HANG_S)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=HANG_S)
    yield Ends(stream, theirs)
    stream.close()
    theirs.close()


def framed(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


def test_records_and_their_bytes_arrive_in_order(ends: Ends) -> None:
    other: Framed[Any] = Framed(ends.peer, FromChild, silence_s=HANG_S)
    large, small = bytes(range(256)) * 5000, b"small"
    sender = Thread(
        target=lambda: (other.send(Unloadable("a"), [memoryview(small), memoryview(large)]), other.send(Beat()))
    )
    sender.start()
    room = bytearray(len(small) + len(large))
    assert ends.stream.receive() == Unloadable("a")
    ends.stream.receive_into(memoryview(room))
    assert ends.stream.receive() == Beat()
    sender.join()
    assert room == small + large


def test_bytes_land_where_they_are_to_be_and_nowhere_else(ends: Ends) -> None:
    memory = bytearray(b"." * 30)
    ends.peer.sendall(b"x" * 10)
    ends.stream.receive_into(memoryview(memory)[10:20])
    assert bytes(memory) == b"." * 10 + b"x" * 10 + b"." * 10


def check_a_long_record_is_refused_by_its_length() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=HANG_S)
    theirs.sendall(LENGTH.pack(MESSAGE_BYTES_MAX + 1))
    theirs.shutdown(socket.SHUT_WR)
    try:
        with pytest.raises(ProtocolError):
            stream.receive()
    finally:
        stream.close()
        theirs.close()


def test_a_record_that_is_too_long_is_refused_by_its_length() -> None:
    check_a_long_record_is_refused_by_its_length()


def test_a_length_of_four_gigabytes_allocates_nothing(ends: Ends) -> None:
    ends.peer.sendall(b"\xff" * LENGTH.size)
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        ends.stream.receive()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MESSAGE_BYTES_MAX


@pytest.mark.parametrize("sent", [b"", LENGTH.pack(10), framed(encode(Beat()))[:-1]], ids=["nothing", "length", "half"])
def test_what_is_cut_off_is_a_peer_that_is_gone(ends: Ends, sent: bytes) -> None:
    ends.peer.sendall(sent)
    ends.peer.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerGone):
        ends.stream.receive()


def test_bytes_that_are_cut_off_are_a_peer_that_is_gone(ends: Ends) -> None:
    ends.peer.sendall(b"half")
    ends.peer.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerGone):
        ends.stream.receive_into(memoryview(bytearray(8)))


@given(strategies.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_link_error(content: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=HANG_S)
    theirs.sendall(framed(content))
    theirs.close()
    try:
        stream.receive()
    except LinkError:
        pass
    finally:
        stream.close()


def test_a_peer_that_says_nothing_is_dead() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=0.01)
    with pytest.raises(PeerStalled):
        stream.receive()
    stream.close()
    theirs.close()


def test_a_peer_that_takes_nothing_is_dead() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=0.01)
    with pytest.raises(PeerStalled):
        stream.send(Beat(), [memoryview(bytes(64 * 1024 * 1024))])
    stream.close()
    theirs.close()


def check_who_drips_is_cut_off() -> None:
    """Each byte is progress, but all of it has an end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream: Framed[Any] = Framed(ours, FromChild, silence_s=HANG_S, until_s=time.monotonic() - 1)
    theirs.sendall(b"\x00")
    try:
        with pytest.raises(PeerStalled):
            stream.receive()
    finally:
        stream.close()
        theirs.close()


def test_who_drips_is_cut_off() -> None:
    check_who_drips_is_cut_off()


def test_ending_it_wakes_the_thread_that_receives(ends: Ends) -> None:
    failures: list[Exception] = []

    def receive() -> None:
        try:
            ends.stream.receive()
        except LinkError as error:
            failures.append(error)

    receiver = Thread(target=receive)
    receiver.start()
    ends.stream.end()
    receiver.join(HANG_S)
    assert [type(failure) for failure in failures] == [PeerGone]
