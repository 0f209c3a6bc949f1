"""Finds packets of a clip that need not be decoded, because no wanted picture refers to them. Pure.

    sampled:        v                             v
    packets:  I P B B P B B P | I P B B P | I P B B P B B | I P P
    decoded:  I P B B P . . .   . . . . .   I P B B P . .   . . .

A *group of pictures* starts with a picture from which decoding can start without earlier ones: an IDR picture (H.264,
7.4.1.2.4; H.265, 7.4.2.2) or a key frame (VP8: RFC 6386, 9.1; VP9: 7.2). In a group, packets are decoded up to the one
after the last wanted one (which may be its picture's other field), and no further.

An *open* group starts with a CRA picture (H.265) or a recovery point (H.264). Pictures shown from that picture on refer
to nothing before it. Pictures shown before it come later in the file, but may also refer to the group before, which is
then decoded as a whole. If all of that group is shown before its own first picture, the group before it is decoded too.
A picture shown after it ends all such references (H.265, 8.3.2).

Parameter sets outlast their group, so a packet is also decoded if its sets differ from the last ones that the decoder
got, and so is the first packet, which may contain settings of the whole clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from blake3 import blake3

NAL_UNITS_MAX = 500_000
"""Maximum NAL units read in one clip; a picture has one for each slice. Each takes half a microsecond."""
SETS_BYTES_MAX = 4096
"""Maximum bytes of one packet's parameter sets; a hundred are usual."""
RUNS_MAX = 128
"""Maximum runs of packets with gaps between them in one clip; they are part of its record."""
PICTURE_TIMING = 1
"""Type of an SEI message (H.264, D.1) with which FFmpeg's interlaced flag depends on the previous picture."""
RECOVERY_POINT, AT_ONCE_AND_EXACT = 6, 0xC0
"""Type of another one, and how its content starts (D.1.8) if everything is correct from its own picture on."""


@dataclass(frozen=True)
class Unit:
    """A packet: when its picture is shown, whether it starts a group, and the digest of its parameter sets, if any.

    `open`: pictures shown before it refer to the group before. `shown_s` None: unknown or unreadable, so it may
    contain anything.
    """

    shown_s: float | None
    begins: bool
    sets: bytes = b""
    open: bool = False


@dataclass(frozen=True)
class Syntax:
    """How a codec's packets are split into NAL units, and the meaning of their types."""

    shift: int
    mask: int
    header_bytes: int
    anew: frozenset[int]
    """Slices of a picture from which decoding can start."""
    openly: frozenset[int]
    """Slices of a picture that starts an open group."""
    slices: frozenset[int]
    sets: frozenset[int]
    messages: frozenset[int]
    """SEI messages, one of which makes a picture depend on those decoded before it."""
    length_at: int
    """Position in the codec's record where two bits hold the length of a NAL unit's length, minus one."""


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
"""Returns what is known of a clip's next packet, from its bytes and the time when its picture is shown."""


Cut = Callable[[memoryview], Iterator[tuple[int, int]]]
"""Start and end of a packet's NAL units; stops at one that does not fit."""


def by_lengths(length_bytes: int) -> Cut:
    """For packets with length-prefixed NAL units, as in MP4 and Matroska."""

    def cut(packet: memoryview) -> Iterator[tuple[int, int]]:
        at, beyond = 0, False
        while not beyond:
            start = at + length_bytes
            at = start + int.from_bytes(packet[at:start], "big")
            yield start, at
            beyond = at >= len(packet)

    return cut


def by_start_codes(packet: memoryview) -> Iterator[tuple[int, int]]:
    """For byte streams (H.264 and H.265, annex B), as in AVI and MPEG."""
    starts = [found.end() for found in _START_CODE.finditer(packet)]
    if not starts:
        yield 0, -1
    for start, following in pairwise([*starts, len(packet) + 3]):
        yield start, following - 3


_START_CODE = re.compile(rb"\0\0\x01")


class NalUnits:
    """Parses one clip's packets, which `cut` splits."""

    def __init__(self, syntax: Syntax, cut: Cut) -> None:
        self._syntax = syntax
        self._cut = cut
        self._left = NAL_UNITS_MAX

    def read(self, packet: memoryview, shown_s: float | None) -> Unit:
        """See `Read`."""
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
    """Whether an SEI message says that decoding can start here: its type, its length, its content."""
    return len(message) > 2 and message[0] == RECOVERY_POINT and message[2] & AT_ONCE_AND_EXACT == AT_ONCE_AND_EXACT


def vp8_frame(packet: memoryview, shown_s: float | None) -> Unit:
    """See `Read`."""
    return Unit(shown_s, begins=not packet[0] & 0x01)


def vp9_frame(packet: memoryview, shown_s: float | None) -> Unit:
    """See `Read`; of several frames in a packet, the first counts (uncompressed_header, 6.2)."""
    reserved = packet[0] & 0x30 == 0x30  # profile 3 has one more bit
    shows_existing, is_not_key = (0x04, 0x02) if reserved else (0x08, 0x04)
    return Unit(shown_s, begins=not packet[0] & (shows_existing | is_not_key))


def av1_unit(packet: memoryview, shown_s: float | None) -> Unit:
    """See `Read`: a temporal unit, by its first frame (AV1, 5.3 to 5.9). A shown key frame resets everything."""
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
    """Return a number, and where it ends."""
    value = 0
    for place, byte in enumerate(packet[at : at + 8]):
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    return len(packet), len(packet)


AV1_SEQUENCE = 1
AV1_FRAMES = frozenset({3, 6})


def whole_picture(_packet: memoryview, shown_s: float | None) -> Unit:
    """See `Read`, for codecs whose pictures do not refer to others."""
    return Unit(shown_s, begins=True)


def unreadable(_packet: memoryview, _shown_s: float | None) -> Unit:
    """See `Read`, for packets with unknown content."""
    return UNREADABLE


def read_of(codec: str, record: bytes | None) -> Read | None:
    """Choose the reader for a codec by the container's record; None if its packets cannot be parsed."""
    if codec in FRAMES:
        return FRAMES[codec]
    length_bytes = _length_bytes(codec, record)
    return None if length_bytes is None else NalUnits(SYNTAXES[codec], _cut(length_bytes)).read


def beginning_of(codec: str, record: bytes | None, packet: memoryview) -> bytes | None:
    """Return the part of a packet that tells a decoder its picture's size and rotation, or None if it is not known.

    That is everything before the first slice, and the slice's first bytes.
    """
    length_bytes = _length_bytes(codec, record)
    if length_bytes is None:
        return None
    syntax = SYNTAXES[codec]
    for start, end in islice(_cut(length_bytes)(packet), BEGINNING_UNITS_MAX):
        if not start + syntax.header_bytes <= end <= len(packet):
            return None
        if packet[start] >> syntax.shift & syntax.mask in syntax.slices:
            beyond = min(end, start + BEGINNING_BYTES)
            length = (beyond - start).to_bytes(length_bytes, "big") if length_bytes else b""
            return b"".join((packet[: start - length_bytes], length, packet[start:beyond]))
    return None


BEGINNING_UNITS_MAX = 64
"""Maximum NAL units up to a picture's first slice; four are common."""
BEGINNING_BYTES = 512
"""Of the slice. Its header has a few dozen."""


def _length_bytes(codec: str, record: bytes | None) -> int | None:
    """Size of the length field before each NAL unit; 0 in a stream of start codes, None if it is not known."""
    syntax = SYNTAXES.get(codec)
    if syntax is None:
        return None
    if not record or record[0] == 0:  # no record, or one with start codes
        return 0
    if len(record) <= syntax.length_at or record[0] != 1:
        return None
    return (record[syntax.length_at] & 3) + 1


def _cut(length_bytes: int) -> Cut:
    return by_lengths(length_bytes) if length_bytes else by_start_codes


FRAMES: Mapping[str, Read] = {
    "vp8": vp8_frame,
    "vp9": vp9_frame,
    "av1": av1_unit,
    "libdav1d": av1_unit,
    "mjpeg": whole_picture,
    "prores": whole_picture,
}


def runs(units: Iterable[Unit], wanted_s: Container[float]) -> tuple[tuple[int, int], ...]:
    """Return the runs of packets to decode for the pictures shown at `wanted_s`, as (first, end).

    The decoder has to be told of the gap between two runs. If there are too many gaps, the widest are kept.
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
    """The numbers of groups to which wanted pictures of a later group refer."""
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
    """How much of each group a decoder needs, for one group after the other."""

    def __init__(self, wanted_s: Container[float]) -> None:
        self._wanted_s = wanted_s
        self._sets = b""
        self._least = 1

    def of(self, group: Sequence[Unit], *, whole: bool) -> int:
        """Number of packets, from the first one on. `whole`: another group refers to this one."""
        new_sets = any(unit.shown_s is None or unit.sets not in (b"", self._sets) for unit in group)
        needed, self._least = len(group) if whole else self._least, 0
        for count, unit in enumerate(group, 1):
            if unit.shown_s is None or unit.shown_s in self._wanted_s or (new_sets and unit.sets):
                needed = max(needed, min(count + 1, len(group)))
        for unit in group[:needed]:
            self._sets = b"" if unit.shown_s is None else unit.sets or self._sets
        return needed
