"""Which packets of a clip need not be decoded, because what is wanted refers to none of them. Pure.

    sampled:        v                             v
    packets:  I P B B P B B P | I P B B P | I P B B P B B | I P P
    decoded:  I P B B P . . .   . . . . .   I P B B P . .   . . .

A *group of pictures* begins with one from which decoding can begin anew, to which all earlier ones mean nothing: an IDR
picture (H.264, 7.4.1.2.4; H.265, 7.4.2.2) or a key frame (VP8: RFC 6386, 9.1; VP9: 7.2). Of a group, the packets up to
the one behind the last that is wanted are decoded (that may be its picture's other field), and none of the others.
An *open* group begins with a CRA picture (H.265) or a recovery point (H.264). What is shown from that picture on refers
to nothing before it; what is shown before it, though it comes later in the file, refers to the group before as well.
That one is then decoded whole. Where all of it is shown before its own first picture, so is the one before it: a
picture that is shown after it ends all references to such ones (H.265, 8.3.2).

Parameter sets outlast their group, so a packet whose sets are not those that the decoder had last is decoded too; so is
the first of all, which may say what holds for the whole clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from blake3 import blake3

NAL_UNITS_MAX = 500_000
"""That are looked at in one clip; a picture has one for each slice. Half a microsecond each."""
SETS_BYTES_MAX = 4096
"""Of one packet's parameter sets: usual are a hundred."""
RUNS_MAX = 128
"""Runs of packets with gaps between them, in one clip: they are a part of its record."""
PICTURE_TIMING = 1
"""An SEI message's type (H.264, D.1). With it, whether FFmpeg calls a picture interlaced depends on the one before."""
RECOVERY_POINT, AT_ONCE_AND_EXACT = 6, 0xC0
"""Another one's, and how its content begins (D.1.8) where all is right from its own picture on."""


@dataclass(frozen=True)
class Unit:
    """A packet: when its picture is shown, whether it begins a group, the digest of its parameter sets if it has any.

    `open`: what is shown before it refers to the group before. `shown_s` None: it does not say, or cannot be read, so
    that it may hold anything.
    """

    shown_s: float | None
    begins: bool
    sets: bytes = b""
    open: bool = False


@dataclass(frozen=True)
class Syntax:
    """How a codec's packets are cut into NAL units, and which types of those mean what here."""

    shift: int
    mask: int
    header_bytes: int
    anew: frozenset[int]
    """Slices of a picture from which decoding can begin anew."""
    openly: frozenset[int]
    """Slices of one that begins an open group."""
    slices: frozenset[int]
    sets: frozenset[int]
    messages: frozenset[int]
    """SEI messages, where one of them makes a picture depend on those that are decoded before it."""
    length_at: int
    """Where the container's record of the codec holds the length of a NAL unit's length, less one, in two bits."""


SYNTAXES: Mapping[str, Syntax] = {
    # types: table 7-1; the record: ISO/IEC 14496-15, 5.3.3.1
    "h264": Syntax(
        0,
        0x1F,
        1,
        frozenset({5}),
        frozenset(),
        frozenset({1, 2, 3, 4, 5}),
        frozenset({7, 8, 13, 15}),
        frozenset({6}),
        4,
    ),
    # types: table 7-1; the record: ISO/IEC 14496-15, 8.3.3.1
    "hevc": Syntax(
        1, 0x3F, 2, frozenset({19, 20}), frozenset({21}), frozenset(range(32)), frozenset({32, 33, 34}), frozenset(), 21
    ),
}


UNREADABLE = Unit(None, begins=False)

Read = Callable[[memoryview, float | None], Unit]
"""What is to be known of a clip's next packet, by its bytes and when its picture is shown."""


Cut = Callable[[memoryview], Iterator[tuple[int, int]]]
"""Where the NAL units of a packet begin and end; nothing behind one that does not fit."""


def by_lengths(length_bytes: int) -> Cut:
    """For packets whose NAL units have their lengths before them, as MP4 and Matroska have them."""

    def cut(packet: memoryview) -> Iterator[tuple[int, int]]:
        at, beyond = 0, False
        while not beyond:
            start = at + length_bytes
            at = start + int.from_bytes(packet[at:start], "big")
            yield start, at
            beyond = at >= len(packet)

    return cut


def by_start_codes(packet: memoryview) -> Iterator[tuple[int, int]]:
    """For a stream of bytes (H.264 and H.265, annex B), as AVI and MPEG have it."""
    starts = [found.end() for found in _START_CODE.finditer(packet)]
    if not starts:
        yield 0, -1
    for start, following in pairwise([*starts, len(packet) + 3]):
        yield start, following - 3


_START_CODE = re.compile(rb"\0\0\x01")


class NalUnits:
    """Reads one clip's packets, which `cut` takes apart."""

    def __init__(self, syntax: Syntax, cut: Cut) -> None:
        self._syntax = syntax
        self._cut = cut
        self._left = NAL_UNITS_MAX

    def read(self, packet: memoryview, shown_s: float | None) -> Unit:
        """As `Read`."""
        sets, sets_bytes, first_slice, recovers = blake3(), 0, None, False
        for start, end in self._cut(packet):
            self._left -= 1
            content = start + self._syntax.header_bytes
            if self._left < 0 or not content <= end <= len(packet):
                return UNREADABLE
            kind = packet[start] >> self._syntax.shift & self._syntax.mask
            if kind in self._syntax.messages and content < end:
                if packet[content] == PICTURE_TIMING:
                    return UNREADABLE
                recovers = recovers or _recovers(packet[content:end])
            if kind in self._syntax.sets:
                sets_bytes += end - start
                if sets_bytes > SETS_BYTES_MAX:
                    return UNREADABLE
                sets.update(packet[start:end])
            elif first_slice is None and kind in self._syntax.slices:
                first_slice = kind
        anew = first_slice in self._syntax.anew
        openly = not anew and shown_s is not None and (recovers or first_slice in self._syntax.openly)
        return Unit(shown_s, anew or openly, sets.digest() if sets_bytes else b"", openly)


def _recovers(message: memoryview) -> bool:
    """Whether an SEI message says that decoding can begin here: its type, its length, its content."""
    return len(message) > 2 and message[0] == RECOVERY_POINT and message[2] & AT_ONCE_AND_EXACT == AT_ONCE_AND_EXACT


def vp8_frame(packet: memoryview, shown_s: float | None) -> Unit:
    """As `Read`."""
    return Unit(shown_s, begins=not packet[0] & 0x01)


def vp9_frame(packet: memoryview, shown_s: float | None) -> Unit:
    """As `Read`; of several frames in a packet by the first (uncompressed_header, 6.2)."""
    reserved = packet[0] & 0x30 == 0x30  # profile 3 has a bit more
    shows_existing, is_not_key = (0x04, 0x02) if reserved else (0x08, 0x04)
    return Unit(shown_s, begins=not packet[0] & (shows_existing | is_not_key))


def av1_unit(packet: memoryview, shown_s: float | None) -> Unit:
    """As `Read`: a temporal unit, by its first frame (AV1, 5.3 to 5.9). A key frame that is shown begins all anew."""
    at, sets = 0, b""
    while at < len(packet):
        head = packet[at]
        kind, at = head >> 3 & 0x0F, at + (2 if head & 0x04 else 1)
        length = len(packet) - at
        if head & 0x02:
            length, at = _leb128(packet, at)
        body = packet[at : at + length]
        if kind == AV1_SEQUENCE:
            sets = blake3(body).digest()
        elif kind in AV1_FRAMES:  # show_existing_frame, frame_type, show_frame
            return Unit(shown_s, begins=bool(body) and body[0] >> 4 == 0b0001, sets=sets)
        at += length
    return UNREADABLE


def _leb128(packet: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for place, byte in enumerate(packet[at : at + 8]):
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    return len(packet), len(packet)


AV1_SEQUENCE = 1
AV1_FRAMES = frozenset({3, 6})


def whole_picture(_packet: memoryview, shown_s: float | None) -> Unit:
    """As `Read`, for codecs whose pictures refer to no other."""
    return Unit(shown_s, begins=True)


def unreadable(_packet: memoryview, _shown_s: float | None) -> Unit:
    """As `Read`, for what may be anything."""
    return UNREADABLE


def read_of(codec: str, record: bytes | None) -> Read | None:
    """For packets of a codec, by the container's record of it; None when they cannot be read."""
    if codec in FRAMES:
        return FRAMES[codec]
    syntax = SYNTAXES.get(codec)
    if syntax is None:
        return None
    if not record or record[0] == 0:  # no record, or one of start codes
        return NalUnits(syntax, by_start_codes).read
    if len(record) <= syntax.length_at or record[0] != 1:
        return None
    return NalUnits(syntax, by_lengths((record[syntax.length_at] & 3) + 1)).read


FRAMES: Mapping[str, Read] = {
    "vp8": vp8_frame,
    "vp9": vp9_frame,
    "av1": av1_unit,
    "libdav1d": av1_unit,
    "mjpeg": whole_picture,
    "prores": whole_picture,
}


def runs(units: Iterable[Unit], wanted_s: Container[float]) -> tuple[tuple[int, int], ...]:
    """Which packets to decode for the pictures shown at `wanted_s`: from the first to before the second number.

    Between two runs the decoder has to be told of the gap. Of too many gaps the widest are left.
    """
    found: list[tuple[int, int]] = []
    groups = list(_groups(units))
    needs, at, whole = _Needs(wanted_s), 0, _referred_to(groups, wanted_s)
    for number, group in enumerate(groups):
        if needed := needs.of(group, whole=number in whole):
            first = found.pop()[0] if found and found[-1][1] == at else at
            found.append((first, at + needed))
        at += len(group)
    by_gap = sorted(range(1, len(found)), key=lambda number: found[number - 1][1] - found[number][0])
    begin = sorted([0, *by_gap[: RUNS_MAX - 1]]) if found else []
    return tuple((found[here][0], found[after - 1][1]) for here, after in pairwise([*begin, len(found)]))


def _groups(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    group: list[Unit] = []
    for unit in units:
        if group and unit.begins:
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _referred_to(groups: Sequence[Sequence[Unit]], wanted_s: Container[float]) -> set[int]:
    """The numbers of groups to which wanted pictures of a later one refer."""
    found = set[int]()
    for number, group in enumerate(groups):
        if any(unit.shown_s in wanted_s for unit in group if _is_shown_before(unit, group[0])):
            for earlier in range(number - 1, -1, -1):
                if earlier in found:
                    break
                found.add(earlier)
                first, *others = groups[earlier]
                if not first.open or any(_is_shown_after(unit, first) for unit in others):
                    break
    return found


def _is_shown_before(unit: Unit, first: Unit) -> bool:
    return first.open and unit.shown_s is not None and first.shown_s is not None and unit.shown_s < first.shown_s


def _is_shown_after(unit: Unit, first: Unit) -> bool:
    return unit.shown_s is not None and first.shown_s is not None and unit.shown_s > first.shown_s


class _Needs:
    """How much of each group a decoder has to be given, asked about one after the other."""

    def __init__(self, wanted_s: Container[float]) -> None:
        self._wanted_s = wanted_s
        self._sets = b""
        self._least = 1

    def of(self, group: Sequence[Unit], *, whole: bool) -> int:
        """So many packets, from the first on. `whole`: another group refers to this one."""
        new_sets = any(unit.shown_s is None or unit.sets not in (b"", self._sets) for unit in group)
        needed, self._least = len(group) if whole else self._least, 0
        for count, unit in enumerate(group, 1):
            if unit.shown_s is None or unit.shown_s in self._wanted_s or (new_sets and unit.sets):
                needed = max(needed, min(count + 1, len(group)))
        for unit in group[:needed]:
            self._sets = b"" if unit.shown_s is None else unit.sets or self._sets
        return needed
