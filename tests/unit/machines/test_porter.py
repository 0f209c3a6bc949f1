"""A porter between a front end and a machine that say what the test wants: where bytes land, and when they do not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from mmplane.arena.segment import RegionMapping, create_region
from mmplane.arena.spans import pieces
from mmplane.config import Config
from mmplane.core.errors import Failure
from mmplane.core.jobs import (
    Examine,
    Examined,
    FromWorker,
    JobDied,
    JobFailed,
    JobLost,
    MachineGone,
    Materialise,
    Materialised,
    Measure,
    ToWorker,
    WorkerReady,
)
from mmplane.core.records import Ask, Layout, Recipe, Record, Slot
from mmplane.features.contract.arrays import pack
from mmplane.machines import dial, outpost
from mmplane.machines import porter as porter_module
from mmplane.machines.channel import SILENCE_SECONDS
from mmplane.machines.greeting import Refusal
from mmplane.machines.kept import KEPT_MAX, Kept
from mmplane.machines.porter import Porter
from mmplane.machines.records import (
    Declined,
    Died,
    FromServer,
    Hello,
    Look,
    Looked,
    Made,
    NotMade,
    Pulse,
    Welcome,
    Work,
)
from mmplane.wire.framed import Framed
from mmplane.wire.link import Link, pair
from mutation import Mutant, check_it_is_killed

HANG_S = 60.0
REGION_BYTES = 64 * 1024
KIN = (("numpy", "2"),)
LAYOUT = pack([("pixels", "uint8", (100,)), ("grid", "int64", (3,))], ())
"""100 bytes, 28 of padding, 24 bytes."""
FEATURES = b"f" * 100 + b"g" * 24
MEDIA = b"the file"


class Processors:
    """As much of them as a porter needs."""

    fingerprint = b"f" * 32
    encoding = "uint8"


class Around:
    """A porter, and both of its peers."""

    def __init__(self) -> None:
        ours, theirs = pair()
        regions = [create_region(f"test-{number}", REGION_BYTES) for number in range(2)]
        self.media, self.features = (RegionMapping(region, REGION_BYTES, writable=True) for region in regions)
        for region in regions:
            os.close(region)
        self.media.view(0, len(MEDIA))[:] = MEDIA
        self._ours: Link[Any] = Link(ours, ToWorker)
        config = Config(model="tiny", model_folder="", served_name="tiny", join_max=1)
        self.porter = Porter(
            config,
            Processors(),  # type: ignore[arg-type]
            frontend=self._ours,
            media=self.media,
            features=self.features,
            region=3,
        )
        self.frontend: Link[Any] = Link(theirs, FromWorker)
        self.machine: Framed[Any]

    def join(self, *, lanes: int = 2, kin: tuple[tuple[str, str], ...] = KIN) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.porter.admit(Hello("machine", "jobs", lanes, kin), ours)
        except Refusal:
            ours.close()
            theirs.close()
            raise
        self.machine = Framed(theirs, FromServer, silence_s=HANG_S)
        assert self.machine.receive() == Welcome()

    def ask(
        self, job_id: int, *, life: int = 1, layout: Layout = LAYOUT, offset_bytes: int = 4096, key: bytes = b""
    ) -> Materialise:
        out = Slot(3, offset_bytes, layout.length_bytes, job_id)
        job = Materialise(job_id, Recipe("image", layout), Slot(0, 0, len(MEDIA), 1), out, life, key)
        self.porter._take(job)
        return job

    def told(self) -> Record:
        """What the front end is told next."""
        received = self.frontend.receive(limit_s=HANG_S)
        assert received is not None
        return received[0]  # type: ignore[no-any-return]

    def asked(self) -> tuple[Work | Look, bytes]:
        """The machine's next job and its media."""
        while isinstance(work := self.machine.receive(), Pulse):
            pass
        media = bytearray(work.media_bytes)
        self.machine.receive_into(memoryview(media))
        return work, bytes(media)

    def close(self) -> None:
        if hasattr(self, "machine"):
            self.machine.close()
        if (machine := self.porter._machine) is not None:
            machine.channel._receiver.join(HANG_S)
        self.frontend.close()
        self._ours.close()


@contextmanager
def attended() -> Iterator[Around]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(porter_module, "kin_of", lambda *_: KIN)
        patch.setattr(porter_module, "entitle", lambda _: None)
        made = Around()
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def around() -> Iterator[Around]:
    with attended() as made:
        yield made


def made(job_id: int) -> Made:
    return Made(job_id, 1.0, 2.0, len(FEATURES))


def joined(around: Around, **hello: Any) -> None:
    around.join(**hello)
    assert around.told() == WorkerReady(Processors.fingerprint, hello.get("lanes", 2), 1, "machine")


def test_media_goes_out_and_features_land_in_the_slot_and_nowhere_else(around: Around) -> None:
    joined(around)
    around.features.view(0, REGION_BYTES)[:] = b"." * REGION_BYTES
    job = around.ask(7)
    assert around.asked() == (Work(7, job.recipe, len(MEDIA)), MEDIA)
    around.machine.send(made(7), [memoryview(FEATURES)])
    answer = around.told()
    assert isinstance(answer, Materialised)
    assert (answer.job_id, answer.bytes_written, answer.decode_ms, answer.transform_ms) == (7, len(FEATURES), 1.0, 2.0)
    slot = bytes(around.features.view(4096, LAYOUT.length_bytes))
    assert slot == b"f" * 100 + b"." * 28 + b"g" * 24
    rest = bytes(around.features.view(0, 4096)) + bytes(around.features.view(4096 + LAYOUT.length_bytes, 4096))
    assert set(rest) == set(b".")


RECIPE = Recipe("video", LAYOUT)


def looked(around: Around, job_id: int, key: bytes) -> None:
    """The machine has looked into this item, and has its media."""
    around.porter._take(Examine(job_id, Ask("video"), Slot(0, 0, len(MEDIA), 1), 1, key))
    assert around.asked() == (Look(job_id, Ask("video"), len(MEDIA)), MEDIA)
    around.machine.send(Looked(job_id, RECIPE))
    assert around.told() == Examined(job_id, RECIPE, len(MEDIA))


def check_what_was_looked_into_is_sent_once() -> None:
    with attended() as around:
        joined(around)
        looked(around, 1, b"film")
        for job_id, key, sent in ((2, b"other", MEDIA), (3, b"film", b""), (4, b"film", MEDIA)):
            job = around.ask(job_id, key=key)
            assert around.asked() == (Work(job_id, job.recipe, len(sent), 0 if sent else 1), sent)
            around.machine.send(made(job_id), [memoryview(FEATURES)])
            answer = around.told()
            assert isinstance(answer, Materialised)
            assert answer.sent_bytes == len(sent)


def test_what_was_looked_into_is_sent_once() -> None:
    check_what_was_looked_into_is_sent_once()


def test_the_next_machine_has_none_of_what_the_last_one_looked_into(around: Around) -> None:
    joined(around)
    looked(around, 1, b"film")
    around.machine.close()
    assert around.told() == MachineGone()
    around.join()
    assert isinstance(around.told(), WorkerReady)
    around.ask(2, life=2, key=b"film")
    assert around.asked()[1] == MEDIA


def test_media_that_is_kept_is_bounded_and_goes_in_order() -> None:
    kept: Kept[str] = Kept(10)
    for number, name in enumerate("abc", start=1):
        kept.put(number, name, 4)
    assert [kept.find(name) for name in "abc"] == [0, 2, 3]
    kept.put(4, "long", 11)
    assert [kept.take(number) for number in range(5)] == [None] * 5
    for number in range(KEPT_MAX + 1):
        kept.put(10 + number, str(number), 0)
    assert (kept.find("0"), kept.find("1")) == (0, 11)


def test_answers_come_in_any_order(around: Around) -> None:
    joined(around)
    for number in (1, 2):
        around.ask(number, offset_bytes=4096 * number)
        around.asked()
    for number in (2, 1):
        around.machine.send(made(number), [memoryview(FEATURES)])
        answer = around.told()
        assert isinstance(answer, Materialised)
        assert answer.job_id == number


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NotMade(1, Failure(400, "invalid_media", "bad")), JobFailed(1, Failure(400, "invalid_media", "bad"))),
        (Died(1), JobDied(1)),
        (Declined(1), JobLost(1)),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_was_not_made_is_told(around: Around, said: Record, told: Record) -> None:
    joined(around)
    around.ask(1)
    around.asked()
    around.machine.send(said)
    assert around.told() == told


@pytest.mark.parametrize(
    "said",
    [made(9), Died(9), Looked(1, RECIPE), NotMade(1, Failure(200, "ok", "fine")), Hello("again", "jobs")],
    ids=["of no job", "died of no job", "of another kind", "no failure", "hello"],
)
def test_a_machine_that_says_what_it_may_not_is_lost(around: Around, said: Record) -> None:
    joined(around)
    around.ask(1)
    around.machine.send(said)
    assert around.told() == MachineGone()


def test_a_layout_that_does_not_fit_its_slot_loses_the_machine(around: Around) -> None:
    joined(around)
    beyond = pack([("pixels", "uint8", (2 * LAYOUT.length_bytes,))], ())
    around.ask(1, layout=msgspec.structs.replace(beyond, length_bytes=LAYOUT.length_bytes))
    around.machine.send(made(1), [memoryview(FEATURES)])
    assert around.told() == MachineGone()


def test_half_a_slot_then_cut_and_the_next_life_writes_it_whole(around: Around) -> None:
    joined(around)
    around.ask(1)
    around.asked()
    around.machine.send(made(1), [memoryview(FEATURES)[:60]])
    around.machine.close()
    assert around.told() == MachineGone()
    around.join()
    assert around.told() == WorkerReady(Processors.fingerprint, 2, 2, "machine")
    around.ask(2, life=2)
    around.asked()
    around.machine.send(made(2), [memoryview(FEATURES)])
    assert isinstance(around.told(), Materialised)
    assert b"".join(map(bytes, pieces(LAYOUT.tensors, around.features.view(4096, LAYOUT.length_bytes)))) == FEATURES


def check_a_job_of_an_earlier_life_goes_to_no_machine() -> None:
    """Its slot was given back when that life ended: whoever got it since must not be overwritten."""
    with attended() as around:
        joined(around)
        around.machine.close()
        assert around.told() == MachineGone()
        around.join()
        assert around.told() == WorkerReady(Processors.fingerprint, 2, 2, "machine")
        around.ask(5, life=1)
        assert around.told() == JobLost(5)


def test_a_job_of_an_earlier_life_goes_to_no_machine() -> None:
    check_a_job_of_an_earlier_life_goes_to_no_machine()


def test_without_a_machine_a_job_is_lost_at_once(around: Around) -> None:
    around.ask(1)
    assert around.told() == JobLost(1)


def test_nothing_is_measured_elsewhere(around: Around) -> None:
    joined(around)
    around.porter._take(Measure(4, 5, 3))
    answer = around.told()
    assert isinstance(answer, JobFailed)
    assert answer.failure.status == 500


def test_one_machine_at_a_time(around: Around) -> None:
    joined(around)
    with pytest.raises(Refusal, match="--join-max"):
        around.join()


def test_other_kin_is_refused_and_both_are_named(around: Around) -> None:
    with pytest.raises(Refusal, match="numpy is 2 on the server and 3 on the machine") as refusal:
        around.join(kin=(("numpy", "3"),))
    assert refusal.value.outdated


def test_a_machine_that_reads_nothing_is_lost(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(porter_module, "SILENCE_SECONDS", 0.05)
    around.join()
    assert isinstance(around.told(), WorkerReady)
    assert around.told() == MachineGone()  # it says nothing either


def test_a_machine_is_back_within_ten_seconds() -> None:
    """The longest way: silence is noticed, the machine waits, and a connection that hangs is given up."""
    assert SILENCE_SECONDS < 5
    assert SILENCE_SECONDS + outpost.AGAIN_SECONDS + dial.CONNECT_SECONDS <= 10


def check_padding_is_no_feature() -> None:
    slot = bytearray(b"." * LAYOUT.length_bytes)
    slot[:100], slot[128:] = b"f" * 100, b"g" * 24
    sent = b"".join(map(bytes, pieces(LAYOUT.tensors, memoryview(slot))))
    assert sent == FEATURES


def test_padding_is_no_feature() -> None:
    check_padding_is_no_feature()


def test_an_array_outside_of_its_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="is not inside its slot"):
        pieces(LAYOUT.tensors, memoryview(bytearray(LAYOUT.length_bytes - 1)))


def test_a_sender_that_is_ended_gives_everything_back(around: Around) -> None:
    """Whoever posts after the end is told at once that its memory is read no more."""
    joined(around)
    machine = around.porter._machine
    assert machine is not None
    around.machine.close()
    assert around.told() == MachineGone()
    given_back: list[int] = []
    machine.channel.post(Pulse(), sent=lambda: given_back.append(1))
    assert given_back == [1]


MUTANTS = [
    Mutant(
        "send the slot",
        pieces,
        "return [slot[begin:end] for begin, end in spans(tensors, len(slot))]",
        "return [slot]",
        check_padding_is_no_feature,
    ),
    Mutant(
        "whose life it is",
        Porter._take,
        "machine is None or machine.life != job.life",
        "machine is None",
        check_a_job_of_an_earlier_life_goes_to_no_machine,
    ),
    Mutant(
        "it is kept no longer",
        Porter._take,
        "machine.kept.take(looked)",
        "pass",
        check_what_was_looked_into_is_sent_once,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = partial(monkeypatch.setitem, globals(), "HANG_S", 2.0)
    check_it_is_killed(mutant, request, once_it_passed=hurry)
