"""What no correct client sends: it ends that session, and nothing else."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from sidecar_rig import HANG_S, Rig

from attaching import picture
from mmplane import Client, NotAttached
from mmplane.core.records import Item, Record, Slot, Tensor
from mmplane.embed.media import sealed
from mmplane.sidecar import keeper
from mmplane.sidecar.records import (
    VERSION,
    Abandon,
    Await,
    Bye,
    Bytes,
    Ended,
    Failed,
    FromKeeper,
    Hello,
    Holding,
    Lease,
    Mapped,
    Media,
    NeedBytes,
    Obtain,
    Publish,
    Refused,
    Release,
    Reserve,
    Revoke,
    Welcome,
    Wish,
)
from mmplane.wire.link import Link, PeerGone

MEDIA = picture("a")
SUBJECT = Media(Wish("image"), blake3(MEDIA).digest(), len(MEDIA))
SLOT = Slot(0, 0, 10, 1)


class Raw:
    """A client that sends what the test wants. Its socket is closed with the rig, at the latest."""

    def __init__(self, rig: Rig) -> None:
        rig.closing(self.close)
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.connect(rig.socket)
        self.link: Link[Any] = Link(self.end, FromKeeper)

    def hello(self, role: Any = "producer", **how: Any) -> Raw:
        self.say(Hello(VERSION, role, **how))
        welcome = self.hear(Welcome)
        assert welcome.version == VERSION
        return self

    def say(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        self.link.send(record, descriptors, limit_s=HANG_S)

    def hear(self, kind: type) -> Any:
        received = self.link.receive(limit_s=HANG_S)
        assert received is not None
        record, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        assert isinstance(record, kind), record
        return record

    def close(self) -> None:
        self.link.close()

    def is_cut_off(self) -> bool:
        try:
            while self.link.receive(limit_s=HANG_S) is not None:
                pass
        except PeerGone:
            return True
        return False


@pytest.fixture
def raw(rig: Rig) -> Iterator[Raw]:
    raw = Raw(rig)
    yield raw
    raw.close()


def still_serves(client: Client) -> None:
    client.materialise(picture("b")).release()


@pytest.mark.parametrize(
    "first",
    [b"", b"junk", bytes(70_000), msgspec.msgpack.encode(Mapped((1,))), msgspec.msgpack.encode(["hello", 1, "boss"])],
)
def test_who_does_not_greet_is_shown_the_door(rig: Rig, client: Client, raw: Raw, first: bytes) -> None:
    raw.end.setblocking(True)
    raw.end.send(first)
    raw.end.setblocking(False)
    assert raw.is_cut_off()
    still_serves(client)


def test_another_version_is_refused_by_name(raw: Raw) -> None:
    raw.say(Hello(VERSION + 1, "producer"))
    assert "version" in raw.hear(Refused).reason
    assert raw.is_cut_off()


def test_another_fingerprint_is_refused_and_both_are_named(rig: Rig) -> None:
    with pytest.raises(NotAttached, match=f"{(b'f' * 32).hex()}.*{(b'x' * 32).hex()}"):
        rig.client(fingerprint=b"x" * 32)
    rig.client(fingerprint=b"f" * 32).close()


@pytest.mark.parametrize(
    ("role", "record"),
    [
        ("producer", Hello(VERSION, "producer")),
        ("producer", Ended((1,))),
        ("producer", Mapped((1,))),
        ("producer", Release((1,))),
        ("producer", Lease(1, 5, 0)),
        ("producer", Abandon(SLOT)),
        ("producer", Reserve(1, 10)),
        ("producer", Publish(1, Item(bytes(32), "image", SLOT, ()))),
        ("producer", Publish(1, Item(bytes(65), "image", SLOT, ()))),
        ("producer", Publish(1, Item(bytes(32), "image", SLOT, (Tensor("f", "uint8", (1,), 0),) * 65))),
        ("producer", Publish(1, Item(bytes(32), "image", SLOT, (Tensor("f", "uint8", (1,) * 17, 0),)))),
        ("producer", Bytes(1)),
        ("rank", Obtain(1, SUBJECT)),
        ("rank", Revoke((1,))),
        ("janitor", Obtain(1, SUBJECT)),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_what_a_role_may_not_say_ends_its_session_alone(
    rig: Rig, client: Client, raw: Raw, role: str, record: Record
) -> None:
    raw.hello(role).say(record)
    assert raw.is_cut_off()
    still_serves(client)


def unsealed() -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(descriptor, MEDIA)
    return descriptor


def half_sealed() -> int:
    descriptor = unsealed()
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return descriptor


@contextmanager
def memory_of(content: bytes) -> Iterator[int]:
    descriptor = sealed(content)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def a_pipe() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


@pytest.mark.parametrize(
    "memory",
    [unsealed, half_sealed, a_pipe, lambda: sealed(MEDIA + b"more"), lambda: os.open("/dev/zero", os.O_RDONLY)],
    ids=["unsealed", "half sealed", "a pipe", "another length", "a device"],
)
def test_media_in_memory_that_could_change_is_refused(
    rig: Rig, client: Client, raw: Raw, memory: Callable[[], int]
) -> None:
    raw.hello().say(Obtain(1, SUBJECT))
    raw.hear(NeedBytes)
    descriptor = memory()
    raw.say(Bytes(1), [descriptor])
    os.close(descriptor)
    assert raw.is_cut_off()
    still_serves(client)


def test_bytes_of_another_digest_are_bad_media_and_poison_no_key(rig: Rig, client: Client, raw: Raw) -> None:
    raw.hello().say(Obtain(1, SUBJECT))
    raw.hear(NeedBytes)
    other = sealed(bytes(len(MEDIA)))
    raw.say(Bytes(1), [other])
    os.close(other)
    assert raw.hear(Failed).failure.status == 400
    assert not client.materialise(MEDIA).hit


def test_bytes_that_ride_along_are_held_to_the_same(rig: Rig, client: Client, raw: Raw) -> None:
    raw.hello()
    with memory_of(bytes(len(MEDIA))) as other:
        raw.say(Obtain(1, SUBJECT), [other])
    assert raw.hear(Failed).failure.status == 400, "another digest"
    with memory_of(MEDIA) as memory:
        raw.say(Obtain(2, SUBJECT), [memory, memory])
    assert raw.is_cut_off(), "two descriptors"
    still_serves(client)


@pytest.mark.parametrize("memory", [unsealed, half_sealed, a_pipe, lambda: sealed(MEDIA + b"more")])
def test_memory_that_could_change_is_refused_beside_a_question(
    rig: Rig, client: Client, raw: Raw, memory: Callable[[], int]
) -> None:
    descriptor = memory()
    raw.hello().say(Obtain(1, SUBJECT), [descriptor])
    os.close(descriptor)
    assert raw.is_cut_off()
    still_serves(client)


def test_bytes_that_nobody_needs_are_let_go_of(rig: Rig, client: Client, raw: Raw) -> None:
    """Neither a descriptor nor a mapping stays for a repeat, or for a question that is called off."""
    with client.materialise(MEDIA):
        raw.hello()
        for request in range(1, 9):
            with memory_of(MEDIA) as memory:
                raw.say(Obtain(request, SUBJECT), [memory])
            assert raw.hear(Holding).hit
    rig.until(lambda now: not now["requests"])
    assert "memfd:mmplane-media" not in Path("/proc/self/maps").read_text()
    raw.say(Bye())


def test_requests_of_one_session_are_bounded(
    rig: Rig, client: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "REQUESTS_MAX", 3)
    raw.hello()
    for request in range(1, 5):
        raw.say(Await(request, 9))
    assert raw.hear(Failed).request == 4
    raw.say(Await(1, 9))
    assert raw.is_cut_off(), "a number that is in use"
    still_serves(client)


def test_sessions_are_bounded_and_one_that_claims_nothing_leaves_with_its_socket(
    rig_of: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SESSIONS_MAX", 3)
    rig = rig_of()
    with rig.client() as client:
        others = [Raw(rig).hello("janitor") for _ in range(2)]
        with pytest.raises(NotAttached, match="3 processes are attached already"):
            rig.client()
        others[0].close()
        rig.until(lambda now: now["sessions"]["janitor"] == 1)
        rig.client().close()
        still_serves(client)


def test_the_door_pauses_when_no_descriptor_is_left(rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmplane.sidecar.door.PAUSE_SECONDS", 0.0)
    refusals = iter([OSError(24, "Too many open files")] * 3)

    class Refusing:
        def __init__(self, listener: socket.socket) -> None:
            self._listener = listener

        def accept(self) -> Any:
            if (refusal := next(refusals, None)) is not None:
                raise refusal
            return self._listener.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._listener, name)

    rig.on_loop(lambda: setattr(rig.door, "_listener", Refusing(rig.door._listener)))  # type: ignore[arg-type]
    rig.client().close()
    assert next(refusals, None) is None
    still_serves(client)


def test_a_descriptor_that_nobody_asked_for_is_closed(rig: Rig, client: Client, raw: Raw) -> None:
    read, write = os.pipe()
    raw.hello()
    for record in (Await(1, 9), Bytes(7)):
        raw.say(record, [write])
    os.close(write)
    still_serves(client)
    assert os.read(read, 1) == b"", "nobody has it any more"
    os.close(read)


def test_a_descriptor_that_a_role_may_not_send_is_closed(rig: Rig, client: Client, raw: Raw) -> None:
    read, write = os.pipe()
    raw.hello("janitor").say(Obtain(1, SUBJECT), [write])
    os.close(write)
    assert raw.is_cut_off()
    assert os.read(read, 1) == b"", "nobody has it any more"
    os.close(read)


def test_a_hold_is_numbered_by_session(rig: Rig, client: Client, raw: Raw) -> None:
    mine = client.materialise(MEDIA)
    raw.hello().say(Obtain(1, SUBJECT))
    theirs = raw.hear(Holding)
    assert theirs.item == mine.item
    raw.say(Release((theirs.hold,)))
    raw.say(Release((theirs.hold,)))
    assert raw.is_cut_off()
    assert rig.statistics()["holds"] == 1
