"""Groups of pictures: whatever is left out, the decoder is where it would be had it been given all."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from mmplane.media import gops
from mmplane.media.gops import (
    SYNTAXES,
    UNREADABLE,
    NalUnits,
    Read,
    Syntax,
    Unit,
    by_lengths,
    read_of,
    runs,
    vp8_frame,
    vp9_frame,
)
from mutation import mutated

H264, HEVC = SYNTAXES["h264"], SYNTAXES["hevc"]

CASES = 5000
RAREST = (11376, 5187)
"""Seeds that find what one in thousands finds."""


def drawn(seed: int) -> tuple[list[Unit], frozenset[float]]:
    """Packets, and the times that are wanted."""
    random = Random(seed)

    def packet(at: int) -> Unit:
        if random.random() < 0.15:
            return Unit(None, begins=False)
        begins, sets = random.random() < 0.3, random.choice([b"", b"A", b"A", b"B"])
        return Unit(times[at], begins, sets, open=begins and reordered and random.random() < 0.5)

    reordered = seed % 2 == 1
    times = sorted(map(float, range(16)), key=lambda at: at + random.choice([0, 0, 3.5]) * reordered)
    wanted = random.sample(range(16), random.randint(1, 5))
    return [packet(at) for at in range(random.randint(1, 16))], frozenset(map(float, wanted))


class Decoder:
    """A picture is all of its group before it, and the parameter sets that are in force.

    What is shown before the first of an open group is all that was there before that as well, until something is shown
    after it.
    """

    def __init__(self) -> None:
        self._before: tuple[object, ...] = ()
        self._leading: tuple[object, ...] = ()
        self._first = Unit(None, begins=False)
        self._sets: object = b""

    def decode(self, unit: Unit) -> tuple[object, ...]:
        self._sets = f"what {unit} holds" if unit.shown_s is None else unit.sets or self._sets
        picture = (unit.shown_s, self._sets)
        if unit.begins:
            self._leading = (*self._leading, *self._before) if unit.open else ()
            self._before, self._first = (picture,), unit
            return self._before
        known = unit.shown_s is not None and self._first.shown_s is not None
        if known and self._first.open and unit.shown_s < self._first.shown_s:
            self._leading = (*self._leading, picture)
            return (*self._leading, *self._before)
        self._before = (*self._before, picture)
        if known and unit.shown_s > self._first.shown_s:
            self._leading = ()
        return self._before

    def flush(self) -> None:
        self._before = self._leading = ("a gap",)


def sequential(units: Sequence[Unit], wanted_s: frozenset[float]) -> list[object]:
    decoder = Decoder()
    return [picture for unit in units if (picture := decoder.decode(unit)) and unit.shown_s in wanted_s]


def with_gaps(units: Sequence[Unit], wanted_s: frozenset[float]) -> list[object]:
    decoder, pictures = Decoder(), []
    for first, beyond in runs(units, wanted_s):
        for unit in units[first:beyond]:
            picture = decoder.decode(unit)
            if unit.shown_s in wanted_s:
                pictures.append(picture)
        decoder.flush()
    return pictures


def test_pictures_are_those_of_decoding_everything() -> None:
    for seed in (*RAREST, *range(CASES)):
        units, wanted_s = drawn(seed)
        assert with_gaps(units, wanted_s) == sequential(units, wanted_s), f"seed {seed}"


@pytest.mark.parametrize(
    ("function", "there", "not_so"),
    [
        (gops._Needs.of, "(new_sets and unit.sets)", "False"),
        (gops._Needs.of, 'unit.shown_s is None or unit.sets not in (b"", self._sets)', "False"),
        (gops._Needs.of, "unit.shown_s is None or unit.sets not", "unit.sets not"),
        (gops._Needs.of, "unit.shown_s is None or unit.shown_s in", "unit.shown_s in"),
        (gops._Needs.of, "min(count + 1, len(group))", "count - 1"),
        (gops._Needs.of, 'b"" if unit.shown_s is None else unit.sets', "unit.sets"),
        (gops._groups, "if group and unit.begins", "if len(group) == 3"),
        (gops.runs, "at += len(group)", "at += needed"),
        (gops.runs, "number in whole", "False"),
        (gops._referred_to, "if not first.open or any(", "if True or any("),
        (gops._is_shown_before, "unit.shown_s < first.shown_s", "False"),
    ],
)
def test_the_property_can_fail(function: Any, there: str, not_so: str) -> None:
    with mutated(function, there, not_so), pytest.raises(AssertionError):
        test_pictures_are_those_of_decoding_everything()


def numbered(count: int, group: int, sets: bytes = b"") -> list[Unit]:
    """So many packets, in groups."""
    return [Unit(float(at), at % group == 0, sets if at % group == 0 else b"") for at in range(count)]


def test_what_is_left_out() -> None:
    assert runs(numbered(50, 10), {3.0, 34.0}) == ((0, 5), (30, 36))
    assert runs(numbered(50, 10), {9.0, 10.0}) == ((0, 12),), "no gap"
    assert runs(numbered(50, 10), {45.0}) == ((0, 1), (40, 47)), "the first of all may hold for all"
    assert runs(numbered(50, 10, b"A"), {29.0}) == ((0, 2), (20, 30)), "the decoder knows no sets yet"
    assert runs(numbered(50, 50), {49.0}) == ((0, 50),)
    assert runs([], {1.0}) == ()


def test_of_too_many_gaps_the_widest_are_left() -> None:
    units = numbered(3 * 300, 3) + [Unit(float(at), at % 10 == 0) for at in range(900, 1900)]
    wanted_s = {float(at) for at in (*range(0, 900, 3), *range(900, 1900, 50))}
    found = runs(units, wanted_s)
    assert len(found) == gops.RUNS_MAX
    assert all(any(first <= at < beyond for first, beyond in found) for at in wanted_s)
    assert found[-19:] == tuple((at, at + 2) for at in range(950, 1900, 50))


def nal(syntax: Syntax, kind: int, content: bytes = b"") -> bytes:
    header = (kind << syntax.shift).to_bytes(1, "big") + bytes(syntax.header_bytes - 1)
    return (len(header) + len(content)).to_bytes(4, "big") + header + content


def read(packet: bytes, syntax: Syntax = H264) -> Unit:
    return NalUnits(syntax, by_lengths(4)).read(memoryview(packet), 1.5)


@pytest.mark.parametrize(("syntax", "anew", "other", "sets"), [(H264, 5, 1, 7), (HEVC, 19, 1, 33), (HEVC, 20, 9, 34)])
def test_packets_are_read(syntax: Syntax, anew: int, other: int, sets: int) -> None:
    message = nal(syntax, 6 if syntax is H264 else 39, b"message")
    assert read(message + nal(syntax, anew, b"slice") + nal(syntax, anew), syntax) == Unit(1.5, begins=True)
    assert read(message + nal(syntax, other, b"slice"), syntax) == Unit(1.5, begins=False)
    with_sets = [read(nal(syntax, sets, content) + nal(syntax, anew), syntax) for content in (b"A", b"B", b"A")]
    assert all(unit.begins and unit.sets for unit in with_sets)
    assert with_sets[0] == with_sets[2] != with_sets[1]


def test_pictures_that_begin_open_groups() -> None:
    """CRA pictures, and what a recovery point says is right at once and exactly."""
    opens = Unit(1.5, begins=True, open=True)
    assert read(nal(HEVC, 21), HEVC) == opens
    for message, unit in {
        b"\x06\x01\xc4": opens,
        b"\x06\x01\x44": Unit(1.5, begins=False),
        b"\x06\x01\x84": Unit(1.5, begins=False),
        b"\x05\x01\xc4": Unit(1.5, begins=False),
    }.items():
        assert read(nal(H264, 6, message) + nal(H264, 1)) == unit
        assert read(nal(H264, 6, message) + nal(H264, 5)) == Unit(1.5, begins=True)
    assert not NalUnits(HEVC, by_lengths(4)).read(memoryview(nal(HEVC, 21)), None).begins


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(4),
        bytes(400),
        b"\xff\xff\xff\xff\x65",
        nal(H264, 5)[:-1],
        nal(H264, 5) + b"\0",
        nal(H264, 1) * (gops.NAL_UNITS_MAX + 1),
        nal(H264, 7, bytes(gops.SETS_BYTES_MAX)),
        nal(H264, 7, bytes(gops.SETS_BYTES_MAX)) + nal(H264, 5),
        nal(H264, 6, bytes([gops.PICTURE_TIMING, 1, 0])) + nal(H264, 5),
    ],
)
def test_what_cannot_be_read_may_be_anything(packet: bytes) -> None:
    assert read(packet) == UNREADABLE


def test_a_clip_is_not_read_for_ever() -> None:
    reader = NalUnits(H264, by_lengths(4))
    packet = memoryview(nal(H264, 1) * 1000)
    seen = [reader.read(packet, 1.5) for _ in range(gops.NAL_UNITS_MAX // 1000 + 2)]
    assert seen[-3] == Unit(1.5, begins=False)
    assert seen[-2:] == [UNREADABLE, UNREADABLE]


@pytest.mark.parametrize("record", [None, b"", b"\0\0\0\x01\x67\x64"])
def test_without_the_containers_record_units_begin_with_start_codes(record: bytes | None) -> None:
    found = read_of("h264", record)
    assert found is not None
    assert found(memoryview(b"\0\0\0\x01\x67sets\0\0\x01\x65slice"), 0.0).begins
    assert not found(memoryview(b"\0\0\x01\x41slice"), 0.0).begins
    assert found(memoryview(b"\x65slice"), 0.0) == UNREADABLE
    with_other_sets = found(memoryview(b"\0\0\x01\x67others\0\0\x01\x65slice"), 0.0)
    assert with_other_sets.sets != found(memoryview(b"\0\0\x01\x67sets\0\0\x01\x65slice"), 0.0).sets


def test_with_a_record_that_is_cut_nothing_is_read() -> None:
    assert read_of("h264", b"\x01\x64\x00\x1f") is None
    assert read_of("mpeg4", b"\x01\x64\x00\x1f\xff") is None
    with_record = read_of("h264", b"\x01\x64\x00\x1f\xff")
    assert with_record is not None
    assert with_record(memoryview(nal(H264, 5)), 0.0).begins


@pytest.mark.parametrize(
    ("read_frame", "key", "other"),
    [
        (vp8_frame, b"\x10", b"\x11"),
        (vp9_frame, b"\x82", b"\x86"),
        (vp9_frame, b"\xa2", b"\x88"),
        (vp9_frame, b"\xb1", b"\xb2"),
        (vp9_frame, b"\xb1", b"\xb4"),
    ],
)
def test_key_frames(read_frame: Read, key: bytes, other: bytes) -> None:
    assert read_frame(memoryview(key), 1.5) == Unit(1.5, begins=True)
    assert read_frame(memoryview(other), 1.5) == Unit(1.5, begins=False)
