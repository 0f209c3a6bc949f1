"""Which packets of a clip need not be decoded, because what is wanted refers to none of them. Pure.

    sampled:             v                       v
    packets:  I P B B P B B P | I P B B P | I P B B P B B | I P P
    decoded:  I P B B P . . .   . . . . .   I P B B P . .   . . .

A *group of pictures* begins with one from which decoding can begin anew: an IDR picture (H.264, 7.4.1.2.4; H.265,
7.4.2.2), to which all earlier ones mean nothing. Of a group, the packets up to the last one that is wanted are decoded,
and none of the others. Parameter sets outlast their group, so a packet whose sets are not those that the decoder had
last is decoded too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

ThingT = TypeVar("ThingT")

NAL_UNITS_MAX = 1000
"""In a packet that is looked into: a picture has one for each slice."""


@dataclass(frozen=True)
class Unit:
    """A packet: when its picture is shown, whether it begins a group, its parameter sets.

    `shown_s` None: it does not say, or cannot be read, so that it may hold anything.
    """

    shown_s: float | None
    begins: bool
    sets: bytes = b""


@dataclass(frozen=True)
class Syntax:
    """How a codec's packets are cut into NAL units, and which types of those mean what here."""

    shift: int
    mask: int
    header_bytes: int
    anew: frozenset[int]
    """Slices of a picture from which decoding can begin anew."""
    slices: frozenset[int]
    sets: frozenset[int]
    length_at: int
    """Where the container's record of the codec holds the length of a NAL unit's length, less one, in two bits."""


SYNTAXES: Mapping[str, Syntax] = {
    # types: table 7-1; the record: ISO/IEC 14496-15, 5.3.3.1
    "h264": Syntax(0, 0x1F, 1, frozenset({5}), frozenset({1, 2, 3, 4, 5}), frozenset({7, 8, 13, 15}), 4),
    # types: table 7-1; the record: ISO/IEC 14496-15, 8.3.3.1
    "hevc": Syntax(1, 0x3F, 2, frozenset({19, 20}), frozenset(range(32)), frozenset({32, 33, 34}), 21),
}


def unit_of(syntax: Syntax, length_bytes: int, packet: memoryview, shown_s: float | None) -> Unit:
    """What is to be known of a packet whose NAL units have their lengths, of `length_bytes`, before them.

    One that cannot be read says nothing, so that it is decoded.
    """
    at, sets, first_slice = 0, [], None
    for _ in range(NAL_UNITS_MAX):
        start = at + length_bytes
        at = start + int.from_bytes(packet[at:start], "big")
        if not start + syntax.header_bytes <= at <= len(packet):
            break
        kind = packet[start] >> syntax.shift & syntax.mask
        if kind in syntax.sets:
            sets.append(bytes(packet[start:at]))
        elif first_slice is None and kind in syntax.slices:
            first_slice = kind
        if at == len(packet):
            return Unit(shown_s, first_slice in syntax.anew, b"".join(sets))
    return Unit(None, begins=False)


def length_bytes(syntax: Syntax, record: bytes | None) -> int | None:
    """How long the lengths before NAL units are, says the container's record; None when there are none."""
    if record is None or len(record) <= syntax.length_at or record[0] != 1:
        return None
    return (record[syntax.length_at] & 3) + 1


def groups(things: Iterable[ThingT], begins: Callable[[ThingT], bool]) -> Iterator[list[ThingT]]:
    """Cut before each that begins a group."""
    group: list[ThingT] = []
    for thing in things:
        if group and begins(thing):
            yield group
            group = []
        group.append(thing)
    if group:
        yield group


class Needs:
    """How much of each group a decoder has to be given for the pictures shown at `wanted_s`."""

    def __init__(self, wanted_s: Container[float]) -> None:
        self._wanted_s = wanted_s
        self._sets = b""

    def of(self, group: Sequence[Unit]) -> int:
        """So many, from the first on. To be asked about every group, in order."""
        new_sets = any(each.shown_s is None or each.sets not in (b"", self._sets) for each in group)
        needed = 0
        for count, each in enumerate(group, 1):
            if each.shown_s is None or each.shown_s in self._wanted_s or (new_sets and each.sets):
                needed = count
                self._sets = b"" if each.shown_s is None else each.sets or self._sets
        return needed


def count_decoded(units: Iterable[Unit], wanted_s: Container[float]) -> int:
    """How many packets are decoded for the pictures shown at `wanted_s`."""
    needs = Needs(wanted_s)
    return sum(map(needs.of, groups(units, lambda each: each.begins)))
