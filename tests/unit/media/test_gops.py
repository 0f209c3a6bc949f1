"""Groups of pictures: whatever is left out, the decoder is where it would be had it been given all."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from mmplane.media import gops
from mmplane.media.gops import SYNTAXES, Needs, Syntax, Unit, count_decoded, groups, length_bytes, unit_of
from mutation import mutated

H264, HEVC = SYNTAXES["h264"], SYNTAXES["hevc"]

CASES = 5000


def drawn(seed: int) -> tuple[list[Unit], frozenset[float]]:
    """Packets, and the times that are wanted."""
    random = Random(seed)

    def packet(at: int) -> Unit:
        if random.random() < 0.15:
            return Unit(None, begins=False)
        return Unit(float(at), begins=random.random() < 0.3, sets=random.choice([b"", b"A", b"A", b"B"]))

    wanted = random.sample(range(16), random.randint(1, 5))
    return [packet(at) for at in range(random.randint(1, 16))], frozenset(map(float, wanted))


class Decoder:
    """A picture is all of its group before it, and the parameter sets that are in force."""

    def __init__(self) -> None:
        self._before: tuple[object, ...] = ()
        self._sets: object = b""

    def decode(self, unit: Unit) -> tuple[object, ...]:
        self._sets = f"what {unit} holds" if unit.shown_s is None else unit.sets or self._sets
        self._before = (*(() if unit.begins else self._before), (unit.shown_s, self._sets))
        return self._before

    def flush(self) -> None:
        self._before = ("a gap",)


def sequential(units: Sequence[Unit], wanted_s: frozenset[float]) -> list[object]:
    decoder = Decoder()
    return [picture for unit in units if (picture := decoder.decode(unit)) and unit.shown_s in wanted_s]


def with_gaps(units: Sequence[Unit], wanted_s: frozenset[float]) -> list[object]:
    decoder, needs, pictures = Decoder(), Needs(wanted_s), []
    for group in groups(units, lambda each: each.begins):
        needed = needs.of(group)
        for unit in group[:needed]:
            picture = decoder.decode(unit)
            if unit.shown_s in wanted_s:
                pictures.append(picture)
        if needed < len(group):
            decoder.flush()
    return pictures


def test_pictures_are_those_of_decoding_everything() -> None:
    for seed in range(CASES):
        units, wanted_s = drawn(seed)
        assert with_gaps(units, wanted_s) == sequential(units, wanted_s), f"seed {seed}"


@pytest.mark.parametrize(
    ("there", "not_so"),
    [
        ("(new_sets and each.sets)", "False"),
        ('each.shown_s is None or each.sets not in (b"", self._sets)', "False"),
        ("each.shown_s is None or each.sets not", "each.sets not"),
        ("each.shown_s is None or each.shown_s in", "each.shown_s in"),
        ("needed = count", "needed = count - 1"),
        ('b"" if each.shown_s is None else each.sets', "each.sets"),
    ],
)
def test_the_property_can_fail(there: str, not_so: str) -> None:
    with mutated(Needs.of, there, not_so), pytest.raises(AssertionError):
        test_pictures_are_those_of_decoding_everything()


def test_only_what_comes_before_is_decoded() -> None:
    units = [Unit(float(at), begins=at % 10 == 0, sets=b"A" if at % 10 == 0 else b"") for at in range(50)]
    assert count_decoded(units, {3.0, 34.0}) == 4 + 5
    assert count_decoded(units, {49.0}) == 1 + 10  # the first has sets that the decoder does not


def nal(syntax: Syntax, kind: int, content: bytes = b"") -> bytes:
    header = (kind << syntax.shift).to_bytes(1, "big") + bytes(syntax.header_bytes - 1)
    return (len(header) + len(content)).to_bytes(4, "big") + header + content


@pytest.mark.parametrize(("syntax", "anew", "other", "sets"), [(H264, 5, 1, 7), (HEVC, 19, 1, 33), (HEVC, 20, 21, 34)])
def test_packets_are_read(syntax: Syntax, anew: int, other: int, sets: int) -> None:
    def read(packet: bytes) -> Unit:
        return unit_of(syntax, 4, memoryview(packet), 1.5)

    before = nal(syntax, 6 if syntax is H264 else 39, b"message")
    assert read(before + nal(syntax, anew, b"slice") + nal(syntax, anew)) == Unit(1.5, begins=True)
    assert read(before + nal(syntax, other, b"slice")) == Unit(1.5, begins=False)
    with_sets = read(nal(syntax, sets, b"sets") + nal(syntax, anew))
    assert with_sets == Unit(1.5, begins=True, sets=nal(syntax, sets, b"sets")[4:])


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
    ],
)
def test_what_cannot_be_read_is_decoded(packet: bytes) -> None:
    assert unit_of(H264, 4, memoryview(packet), 1.5) == Unit(None, begins=False)


@pytest.mark.parametrize("record", [None, b"", b"\x01\x64\x00\x1f", b"\0\0\0\x01\x67\x64"])
def test_without_the_containers_record_no_packet_is_read(record: bytes | None) -> None:
    assert length_bytes(H264, record) is None
    assert length_bytes(H264, b"\x01\x64\x00\x1f\xff") == 4
