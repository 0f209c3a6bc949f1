"""TLS between a server and its machines: one pinned certificate, and nothing else is spoken where it is asked for."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from certificates import write_certificate
from mmplane.commands.cluster import read_certificate, read_cluster_key
from mmplane.machines import door as door_module
from mmplane.machines.dial import Server, join
from mmplane.machines.door import Door
from mmplane.machines.greeting import Refusal
from mmplane.machines.pin import check, checked, machine_context, pin_of_file, server_context
from mmplane.machines.records import FromMachine, FromServer, Hello, Made, Pulse, Welcome
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import LinkError, PeerGone, PeerStalled
from mmplane.wire.sealed import Sealed
from mutation import Mutant, check_it_is_killed

HANG_S = 30.0
KEY = b"k" * 32
HELLO = Hello("machine", "jobs", 2)
LONG = os.urandom(3 * 2**20)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_certificate(tmp_path_factory.mktemp("one") / "one.pem").read_bytes()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_certificate(tmp_path_factory.mktemp("other") / "other.pem").read_bytes()


class Listening:
    """A door on loopback, with TLS or without; who was let in is welcomed and kept in `admitted`."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.admitted: list[Framed[Any]] = []
        self._door = Door(self._listener, KEY, self._admit, tls, request=Hello)
        self._over = False
        self._thread = Thread(target=self._look)
        self._thread.start()

    def server(self, pin: str = "") -> Server:
        return Server(("127.0.0.1", self.port), KEY, pin)

    def _admit(self, hello: Hello, end: End) -> None:
        assert hello == HELLO
        stream: Framed[Any] = Framed(end, FromMachine, silence_s=HANG_S)
        self.admitted.append(stream)
        stream.send(Welcome())

    def _look(self) -> None:
        while not self._over:
            self._door.look(free=True)
            time.sleep(0.005)

    def close(self) -> None:
        self._over = True
        self._thread.join(HANG_S)
        for stream in self.admitted:
            stream.close()
        self._listener.close()


@pytest.fixture
def sealed(pem: bytes) -> Iterator[Listening]:
    listening = Listening(server_context(pem))
    yield listening
    listening.close()


@pytest.fixture
def plain() -> Iterator[Listening]:
    listening = Listening(None)
    yield listening
    listening.close()


def test_records_and_bytes_cross_both_ways_at_once(sealed: Listening, pem: bytes) -> None:
    """Each end sends in one thread and receives in another, as a channel does."""
    machine = join(sealed.server(pin_of_file(pem)), HELLO)
    (server,) = sealed.admitted

    def send(stream: Framed[Any], record: Any) -> None:
        for _ in range(5):
            stream.send(record, [memoryview(LONG)])

    def receive(stream: Framed[Any], record: Any) -> bool:
        room = bytearray(len(LONG))
        for _ in range(5):
            if stream.receive() != record:
                return False
            stream.receive_into(memoryview(room))
            if room != LONG:
                return False
        return True

    made = Made(1, 1.0, 2.0, len(LONG))
    with ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(send, server, Pulse()), threads.submit(send, machine, made)]
        received = [threads.submit(receive, machine, Pulse()), threads.submit(receive, server, made)]
        assert [each.result(HANG_S) for each in (*sent, *received)] == [None, None, True, True]
    machine.close()


def check_another_certificate_is_refused(pem: bytes, other: bytes) -> None:
    listening = Listening(server_context(other))
    try:
        with pytest.raises(Refusal) as refusal:
            join(listening.server(pin_of_file(pem)), HELLO).close()
        assert pin_of_file(pem) in str(refusal.value)
        assert pin_of_file(other) in str(refusal.value)
        assert not listening.admitted
    finally:
        listening.close()


def test_another_certificate_is_refused(pem: bytes, other: bytes) -> None:
    check_another_certificate_is_refused(pem, other)


def test_a_server_without_tls_is_no_server_for_a_machine_with_a_pin(plain: Listening, pem: bytes) -> None:
    with pytest.raises(LinkError, match="TLS handshake"):
        join(plain.server(pin_of_file(pem)), HELLO)
    assert not plain.admitted


def test_a_machine_without_tls_does_not_get_in(sealed: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "GREETING_SECONDS", 0.2)
    with pytest.raises(LinkError, match="--join-pin"):
        join(sealed.server(), HELLO)
    assert not sealed.admitted


def test_the_key_is_asked_for_all_the_same(sealed: Listening, pem: bytes) -> None:
    with pytest.raises((Refusal, LinkError)):
        join(Server(("127.0.0.1", sealed.port), b"o" * 32, pin_of_file(pem)), HELLO)
    assert not sealed.admitted


def check_nothing_is_renegotiated(pem: bytes) -> None:
    """An older TLS, in which a peer may have the other compute one handshake after the other, is not spoken."""
    listening = Listening(server_context(pem))
    try:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        end = socket.create_connection(("127.0.0.1", listening.port), timeout=HANG_S)
        with pytest.raises(PeerGone, match="TLS handshake"):
            Sealed.shake(end, old, server_side=False, until_s=time.monotonic() + HANG_S).close()
    finally:
        listening.close()


def test_nothing_is_renegotiated(pem: bytes) -> None:
    check_nothing_is_renegotiated(pem)
    for context in (server_context(pem), machine_context()):
        assert context.options & ssl.OP_NO_RENEGOTIATION


def test_whoever_says_nothing_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(PeerStalled):
        Sealed.shake(ours, machine_context(), server_side=False, until_s=time.monotonic() + 0.05)
    assert ours.fileno() == -1


def test_a_peer_that_falls_silent_is_lost_and_one_that_goes_is_gone(sealed: Listening, pem: bytes) -> None:
    machine = join(sealed.server(pin_of_file(pem)), HELLO)
    stream: Framed[Any] = Framed(machine.socket, FromServer, silence_s=0.05)
    with pytest.raises(PeerStalled):
        stream.receive()
    sealed.admitted[0].end()
    with pytest.raises(PeerGone):
        stream.receive()
    stream.close()


@pytest.mark.parametrize("pin", ["", "ab", "g" * 64, "a" * 65])
def test_what_is_no_pin_is_refused(pin: str) -> None:
    with pytest.raises(ValueError, match="--join-pin"):
        checked(pin)


def test_a_pin_may_be_written_as_openssl_writes_it(pem: bytes) -> None:
    pin = pin_of_file(pem)
    assert checked(":".join(pin[at : at + 2] for at in range(0, 64, 2)).upper()) == pin


def test_a_file_without_a_key_or_a_certificate_is_refused(pem: bytes) -> None:
    at = pem.index(b"-----BEGIN CERTIFICATE")
    for part in (pem[:at], pem[at:], b"", b"nothing"):
        with pytest.raises(ValueError, match="certificate"):
            server_context(part)
    with pytest.raises(ValueError, match="no certificate"):
        pin_of_file(pem[:at])


@pytest.mark.parametrize(
    ("owner", "mode", "taken"), [(0, 0o600, True), (0, 0o640, False), (1, 0o440, True), (1, 0o444, False)]
)
def test_a_secret_may_be_read_by_nobody_else(
    owner: int, mode: int, taken: bool, tmp_path: Path, pem: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to another user is read by way of its group, as a secret in a pod."""
    path = tmp_path / "cluster.pem"
    path.write_bytes(pem)
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + owner)
    for read in (read_certificate, read_cluster_key):
        if taken:
            assert read(str(path))
        else:
            with pytest.raises(ValueError, match="others can read"):
                read(str(path))


MUTANTS = [
    Mutant(
        "whose certificate it is",
        check,
        "hmac.compare_digest(found, pin)",
        "True",
        check_another_certificate_is_refused,
    ),
    Mutant(
        "TLS 1.3 alone",
        server_context,
        "_bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))",
        "ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)",
        check_nothing_is_renegotiated,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
