"""examples/client.c beside a real keeper, and beside a sidecar that is played and sends what none should send."""

from __future__ import annotations

import array
import os
import random
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from msgspec import msgpack
from protocol_vectors import ITEM, KEY, PLANE, SLOT
from sidecar_rig import Rig, features

import client_c
from attaching import picture
from mmplane import Inbox, Leased
from mmplane.arena.label import create_labelled
from mmplane.core.errors import overloaded
from mmplane.core.records import Record, Tensor
from mmplane.sidecar.records import (
    Done,
    Failed,
    Holding,
    Leasing,
    NeedBytes,
    Obtain,
    Refused,
    Region,
    RegionUp,
    ToKeeper,
    Welcome,
)

A = picture("a")
PAGE_BYTES = 4096
REGIONS = (Region(0, PAGE_BYTES), Region(1, 2 * PAGE_BYTES))
LATER = Region(2, 2 * PAGE_BYTES)
WELCOME = Welcome(1, PLANE, bytes(32), REGIONS)
ANSWERS = (WELCOME, NeedBytes(1), Holding(1, 5, ITEM), Done(2), Leasing(3, 17, 2))
"""What a right sidecar says, one record for each of the client's."""

Answer = Record | bytes
CompletedProcess = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return client_c.compiled(tmp_path_factory.mktemp("strict"), "-O2")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return client_c.compiled(tmp_path_factory.mktemp("sanitized"), *client_c.SANITIZED)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(A)
    return path


@pytest.mark.parametrize("build", ["strict", "sanitized"])
def test_a_rank_reads_what_the_client_has_leased(
    build: str, rig: Rig, photo: Path, request: pytest.FixtureRequest
) -> None:
    inbox = Inbox(rig.socket, 0, group=3)
    want = blake3(features(A)).hexdigest()
    for _ in range(2):
        ran = client_c.run(request.getfixturevalue(build), rig.socket, photo, 3)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(f"f uint8 [1024] {want}\nleased ")
        view = inbox.open(Leased.decode(client_c.leased(ran.stdout)))
        assert blake3(view.arrays(np)["f"]).hexdigest() == want
        del view
    assert rig.until(lambda now: not now["holds"])["materialisations"] == 1
    inbox.close()


def test_what_the_sidecar_refuses_is_said(strict: Path, rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "junk.png").write_bytes(b"junk")
    assert_fails(client_c.run(strict, rig.socket, tmp_path / "junk.png", 0), "invalid_media: ")
    assert_fails(client_c.run(strict, tmp_path / "nothing", tmp_path / "junk.png", 0), "no sidecar listens at ")
    assert_fails(client_c.run(strict, rig.socket, tmp_path / "nothing.png", 0), "No such file")
    assert_fails(client_c.run(strict, rig.socket), "usage: ")


class Played:
    """A sidecar that is played: one answer for each record of the client, and then it ends."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(client_c.HANG_S)
        first, second, third = (self._region(each, stack) for each in (*REGIONS, LATER))
        self.beside = {"welcome": [first, second], "region_up": [third]}
        """Descriptors, by the tag of the record that they go with."""
        self.heard: list[Any] = []

    def _region(self, region: Region, stack: ExitStack) -> int:
        fd = create_labelled("test", region.length_bytes, PLANE, region.region)
        stack.callback(os.close, fd)
        return fd

    def play(self, program: Path, photo: Path, answers: Sequence[Answer]) -> CompletedProcess:
        """A run of the client."""
        command = [str(program), str(self._path), str(photo), "0"]
        self.heard.clear()
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
            with self._listener.accept()[0] as end, suppress(ConnectionError):
                for answer in answers:
                    if not isinstance(answer, RegionUp):  # which nobody asks for
                        self._hear(end)
                    self._send(end, answer)
                self._hear(end)
            out, error = process.communicate(timeout=client_c.HANG_S)
        return CompletedProcess(command, process.returncode, out, error)

    def _hear(self, end: socket.socket) -> None:
        if message := end.recv(65536):
            self.heard.append(msgpack.decode(message, type=ToKeeper))

    def _send(self, end: socket.socket, answer: Answer) -> None:
        message = answer if isinstance(answer, bytes) else msgpack.encode(answer)
        fds = next((fds for tag, fds in self.beside.items() if tag.encode() in message[:12]), [])
        end.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    with ExitStack() as stack:
        yield Played(tmp_path / "socket", stack)


def assert_fails(ran: CompletedProcess, why: str = "") -> None:
    """It exits with one line that says why: no crash, and no report of a sanitizer."""
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert ran.stderr.startswith("client: ")
    assert why in ran.stderr


def with_answer(at: int, answer: Answer) -> list[Answer]:
    return [*ANSWERS[:at], answer, *ANSWERS[at + 1 :]]


def test_the_whole_conversation(sanitized: Path, played: Played, photo: Path) -> None:
    ran = played.play(sanitized, photo, ANSWERS)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Leased.decode(client_c.leased(ran.stdout)) == Leased(17, ITEM, PLANE, 2)
    assert [type(record).__name__ for record in played.heard] == ["Hello", "Obtain", "Bytes", "Await", "Lease", "Bye"]


@pytest.mark.parametrize("length_bytes", [1, 64, 65, 1024, 1025, 2048, 2049, 3073, 5121, 31745, 100_000])
def test_media_is_named_by_its_digest(strict: Path, played: Played, photo: Path, length_bytes: int) -> None:
    photo.write_bytes(media := random.Random(length_bytes).randbytes(length_bytes))
    assert_fails(played.play(strict, photo, ANSWERS[:1]), "has ended")
    asked = played.heard[1]
    assert isinstance(asked, Obtain)
    assert (asked.media.digest, asked.media.length_bytes) == (blake3(media).digest(), length_bytes)


def test_a_later_version_may_append_fields(sanitized: Path, played: Played, photo: Path) -> None:
    """To records, and to the arrays in them, and of kinds that no record has today."""
    more = [-1, -1000, 1.5, None, True, b"bytes", [["deep"], "x" * 300]]
    answers = [msgpack.decode(msgpack.encode(answer)) for answer in ANSWERS]
    welcome, holding = answers[0], answers[2]
    slot, tensors = holding[3][3:5]
    for each in (*answers, *welcome[4], holding[3], slot, *tensors):
        each.extend(more)
    ran = played.play(sanitized, photo, list(map(msgpack.encode, answers)))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_region_that_comes_later_is_mapped(sanitized: Path, played: Played, photo: Path) -> None:
    item = msgspec.structs.replace(ITEM, slot=msgspec.structs.replace(SLOT, region=LATER.region))
    answers = with_answer(2, Holding(1, 5, item))
    assert_fails(played.play(sanitized, photo, answers), "outside of the regions")
    assert played.play(sanitized, photo, [ANSWERS[0], RegionUp(LATER), *answers[1:]]).returncode == 0


def item_with(**changed: Any) -> Holding:
    return Holding(1, 5, msgspec.structs.replace(ITEM, **changed))


def slot_with(**changed: Any) -> Holding:
    return item_with(slot=msgspec.structs.replace(SLOT, **changed))


def array_of(dtype: str, shape: tuple[int, ...], offset_bytes: int = 0) -> Holding:
    return item_with(tensors=(Tensor("f", dtype, shape, offset_bytes),))


FAILING: dict[str, tuple[int, Answer, str]] = {
    "refused": (0, Refused("another fingerprint"), "the sidecar refuses: another fingerprint"),
    "another version": (0, Welcome(2, PLANE, bytes(32), REGIONS), "version 1"),
    "another plane": (0, Welcome(1, KEY[16:], bytes(32), REGIONS), "region 0 is not one of this plane"),
    "another number": (0, Welcome(1, PLANE, bytes(32), (REGIONS[0], Region(2, 8192))), "region 2 is not one"),
    "a longer region": (0, Welcome(1, PLANE, bytes(32), (REGIONS[0], Region(1, 16384))), "region 1 is not one"),
    "an endless region": (0, Welcome(1, PLANE, bytes(32), (REGIONS[0], Region(1, 2**64 - 1))), "region 1 is not one"),
    "no descriptor": (0, Welcome(1, PLANE, bytes(32), (*REGIONS, LATER)), "region 2 came without a descriptor"),
    "a short id": (0, msgpack.encode(["welcome", 1, b"short", b"", []]), "cut short"),
    "another request": (1, NeedBytes(2), "what was not asked"),
    "another answer": (2, Done(1), "sent done instead of holding"),
    "bytes when there are none": (3, NeedBytes(2), "sent need_bytes instead of done"),
    "full": (2, Failed(1, overloaded("the arena is full").failure()), "overloaded: the arena is full"),
    "no such region": (2, slot_with(region=9), "outside of the regions"),
    "a slot beyond its region": (2, slot_with(offset_bytes=8192 - 1087), "outside of the regions"),
    "a slot far away": (2, slot_with(offset_bytes=2**64 - 1), "outside of the regions"),
    "a slot too long": (2, slot_with(length_bytes=2**64 - 1), "outside of the regions"),
    "an array beyond its slot": (2, array_of("uint8", (1088,), 1), "beyond its slot"),
    "an array far away": (2, array_of("uint8", (1,), 2**64 - 1), "beyond its slot"),
    "an array too large": (2, array_of("float32", (273,)), "larger than its slot"),
    "an array of 2^64 bytes": (2, array_of("float32", (2**31, 2**31)), "larger than its slot"),
    "no such dtype": (2, array_of("complex64", (1,)), "no dtype complex64"),
    "no array": (2, msgpack.encode(["holding", 1, 5, 9]), "where an array belongs"),
    "no number": (3, msgpack.encode(["done", "2"]), "where a number belongs"),
    "a negative number": (4, msgpack.encode(["leasing", -3, 17, 2]), "where a number belongs"),
    "no text": (3, msgpack.encode([3, 2]), "where text or bytes belong"),
    "a map": (3, msgpack.encode(["done", 2, {}]), "begins with 0x80"),
    "an array without end": (3, b"\xdd\xff\xff\xff\xff", "cut short"),
    "a long message": (3, bytes(65537), "too long"),
}


@pytest.mark.parametrize(("at", "answer", "why"), FAILING.values(), ids=FAILING)
def test_what_no_sidecar_sends_ends_it(
    at: int, answer: Answer, why: str, sanitized: Path, played: Played, photo: Path
) -> None:
    assert_fails(played.play(sanitized, photo, with_answer(at, answer)), why)


@pytest.mark.parametrize("count", range(len(ANSWERS)))
def test_a_sidecar_that_ends_ends_it(count: int, sanitized: Path, played: Played, photo: Path) -> None:
    assert_fails(played.play(sanitized, photo, ANSWERS[:count]), "has ended")


def test_damaged_answers_never_crash_it(sanitized: Path, played: Played, photo: Path) -> None:
    """Fifty answers, cut short or with some bytes changed: it fails, or what came was an answer all the same."""
    randomness = random.Random(1)
    failed = 0
    for _ in range(50):
        at = randomness.choice((0, 0, 2, 2, 2, 4))
        message = bytearray(msgpack.encode(ANSWERS[at]))
        if randomness.random() < 0.5:
            del message[randomness.randrange(1, len(message)) :]
        for _ in range(randomness.randrange(4)):
            message[randomness.randrange(len(message))] = randomness.randrange(256)
        ran = played.play(sanitized, photo, with_answer(at, bytes(message)))
        if ran.returncode != 0:
            assert_fails(ran)
            failed += 1
    assert failed > 25
