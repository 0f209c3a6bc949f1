"""The protocol as bytes: golden vectors both ways, and what is no record is refused."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from protocol_vectors import VECTORS

from mmplane.core.records import MESSAGE_BYTES_MAX, Record
from mmplane.embed.records import Leased
from mmplane.sidecar.keeper import MAY
from mmplane.sidecar.records import CLAIMS_MAX, Ended, FromKeeper, Hello, Media, Obtain, ToKeeper, Wish

TO_KEEPER = msgspec.msgpack.Decoder(ToKeeper)
FROM_KEEPER = msgspec.msgpack.Decoder(FromKeeper)


def decode(record: Record, message: bytes) -> Record:
    if isinstance(record, Leased):
        return Leased.decode(message)
    decoder = TO_KEEPER if isinstance(record, get_args(ToKeeper)) else FROM_KEEPER
    decoded: Record = decoder.decode(message)
    return decoded


def name(value: object) -> str:
    return type(value).__name__ if isinstance(value, Record) else ""


@pytest.mark.parametrize(("record", "golden"), VECTORS, ids=name)
def test_the_encoder_gives_these_bytes_and_the_decoder_takes_them(record: Record, golden: str) -> None:
    assert msgspec.msgpack.encode(record).hex() == golden
    assert decode(record, bytes.fromhex(golden)) == record


def test_every_record_has_a_vector() -> None:
    assert {type(record) for record, _ in VECTORS} == {*get_args(ToKeeper), *get_args(FromKeeper), Leased}


def test_fields_that_a_later_version_appends_are_passed_over() -> None:
    for record, golden in VECTORS:
        if not isinstance(record, Leased):
            fields = msgspec.msgpack.decode(bytes.fromhex(golden))
            assert decode(record, msgspec.msgpack.encode([*fields, "later"])) == record


def test_fields_that_an_earlier_version_does_not_know_may_be_missing() -> None:
    message = msgspec.msgpack.encode(["obtain", 1, [["image"], bytes(32), 5]])
    assert TO_KEEPER.decode(message) == Obtain(1, Media(Wish("image"), bytes(32), 5))


BAD = {
    "nothing": b"",
    "no array": msgspec.msgpack.encode({"hello": 1}),
    "no such tag": msgspec.msgpack.encode(["hullo", 1]),
    "no such role": msgspec.msgpack.encode(["hello", 1, "boss"]),
    "a negative number": msgspec.msgpack.encode(["forget", -1]),
    "a text for a number": msgspec.msgpack.encode(["forget", "1"]),
    "too few fields": msgspec.msgpack.encode(["lease", 1]),
    "a short digest": msgspec.msgpack.encode(["obtain", 1, [["image", 0, 0, 0.0], b"short", 5, ""]]),
    "no bytes of media": msgspec.msgpack.encode(["obtain", 1, [["image", 0, 0, 0.0], bytes(32), 0, ""]]),
    "a long tenant": msgspec.msgpack.encode(["obtain", 1, [["image", 0, 0, 0.0], bytes(32), 5, "t" * 257]]),
    "long arguments": msgspec.msgpack.encode(["obtain", 1, [["image", 0, 0, 0.0, False, "a" * 2049], bytes(32), 5]]),
    "a long key": msgspec.msgpack.encode(["find", 1, bytes(65)]),
    "too many claims": msgspec.msgpack.encode(["ended", [1] * (CLAIMS_MAX + 1)]),
    "a record of the other side": msgspec.msgpack.encode(["done", 1]),
    "more behind it": msgspec.msgpack.encode(["bye"]) + b"\0",
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_what_is_no_record_is_refused(message: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        TO_KEEPER.decode(message)


def test_the_longest_claims_fit_in_one_message() -> None:
    assert len(msgspec.msgpack.encode(Ended((2**63,) * CLAIMS_MAX))) <= MESSAGE_BYTES_MAX


def test_ten_thousand_mutated_greetings_are_a_greeting_or_refused() -> None:
    randomness = random.Random(1)
    golden = [bytearray.fromhex(golden) for record, golden in VECTORS if isinstance(record, Hello)]
    for _ in range(10_000):
        message = bytearray(randomness.choice(golden))
        for _ in range(randomness.randint(1, 4)):
            message[randomness.randrange(len(message))] = randomness.randrange(256)
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            assert isinstance(TO_KEEPER.decode(message), get_args(ToKeeper))


def tag(record: type) -> str:
    return str(record.__struct_config__.tag)  # type: ignore[attr-defined]


def test_the_document_has_every_record_and_what_each_role_may_send() -> None:
    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    assert {tag(record) for record in (*get_args(ToKeeper), *get_args(FromKeeper))} <= set(re.findall(r"`(\w+)`", text))
    for role, may in MAY.items():
        row = re.search(rf"^\| `{role}` \|[^|]*\|([^|]*)\|", text, re.MULTILINE)
        assert row is not None
        assert set(re.findall(r"`(\w+)`", row.group(1))) == {tag(record) for record in may}
