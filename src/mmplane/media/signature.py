"""Detects what a clip's or a sound's file is from its bytes, and the only FFmpeg demuxer that may open it. Pure.

FFmpeg's own probing would open playlists, which refer to other files and addresses. So the demuxer is chosen here, and
none of the possible demuxers opens anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SIGNATURES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("mov", re.compile(rb"(?s)....ftyp")),
    (
        "mov",
        re.compile(rb"\0...(?:moov|mdat|wide|free|skip|pnot)|\0\0\0\x01mdat", re.DOTALL),
    ),  # QuickTime without an ftyp box
    ("matroska", re.compile(rb"\x1a\x45\xdf\xa3")),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("avi", re.compile(rb"(?s)RIFF....AVI ")),
    (
        "mpegts",
        re.compile(rb"(?s)(?:\x47.{187}){3}|....(?:\x47.{191}){2}\x47"),
    ),  # with Blu-ray's clock before each packet
    ("mpeg", re.compile(rb"\0\0\x01\xba")),
    ("ogg", re.compile(rb"OggS")),
    ("wav", re.compile(rb"(?s)(?:RIFF|RF64)....WAVE")),
    ("flac", re.compile(rb"fLaC")),
    ("aac", re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")),
    ("ac3", re.compile(rb"\x0b\x77")),
)
"""FFmpeg's demuxers, and how their files start. MP3 has no signature, so it is tested last."""

DEMUXERS = (*dict.fromkeys(name for name, _ in SIGNATURES), "mp3")
"""FFmpeg's names of the formats that may be opened."""

JUNK_BYTES_MAX = 64 * 1024
"""Bytes before an MP3's first frame: as many as FFmpeg skips."""
TAGS_MAX = 8
FRAMES_SEEN = 3
"""Number of MPEG sound frames that must follow each other without gaps: noise does not contain that many."""


def kind_of(media: bytes | memoryview) -> str | None:
    """Return the demuxer of this file, or None if it may not be opened."""
    view = memoryview(media)
    at = _behind_tags(view)
    for name, begins in SIGNATURES:
        if begins.match(view, at):
            return name
    tagged = bytes(view[:3]) == b"ID3"
    return "mp3" if tagged or _holds_mpeg_sound(view[: JUNK_BYTES_MAX + FRAMES_SEEN * FRAME_BYTES_MAX]) else None


def _behind_tags(view: memoryview) -> int:
    """The position after a file's ID3 tags, which other sounds than MP3 have too."""
    at = 0
    for _ in range(TAGS_MAX):
        head = bytes(view[at : at + 10])
        if len(head) < 10 or head[:3] != b"ID3":
            break
        at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return at


def _holds_mpeg_sound(view: memoryview) -> bool:
    return any(_frames_follow(view, found.start()) for found in _SYNC.finditer(view[:JUNK_BYTES_MAX]))


def _frames_follow(view: memoryview, at: int) -> bool:
    for _ in range(FRAMES_SEEN):
        length_bytes = _frame_bytes(bytes(view[at : at + 4]))
        if not length_bytes:
            return False
        at += length_bytes
    return True


def _frame_bytes(head: bytes) -> int:
    """The length of the MPEG sound frame that starts here (ISO/IEC 11172-3, 2.4.1.3; 13818-3, 2.4.2.3), or 0."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, hz, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate in (0, 15) or hz == 3:
        return 0
    sampling_hz = (44_100, 48_000, 32_000)[hz] >> {3: 0, 2: 1, 0: 2}[version]
    bits_per_s = 1000 * (_RATES[layer] if version == 3 else _LOWER_RATES[layer])[rate - 1]
    if layer == 1:
        return (12 * bits_per_s // sampling_hz + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits_per_s // sampling_hz + padding


_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_RATES = {
    1: tuple(range(32, 449, 32)),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_OF_LOWER_LAYERS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_LOWER_RATES = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: _OF_LOWER_LAYERS,
    3: _OF_LOWER_LAYERS,
}
"""Kilobits per second by layer, for MPEG-1 and for the versions with lower sampling rates."""
FRAME_BYTES_MAX = 2881


_OGG_PAGE = re.compile(rb"OggS\0([\0-\7])", re.DOTALL)
_OGG_BEGINS = 0x02


def ogg_links(media: bytes | memoryview) -> Iterator[memoryview]:
    """The files that a chained Ogg consists of (RFC 3533, 4): each starts with pages that start streams."""
    view, begin, in_head = memoryview(media), 0, True
    for page in _OGG_PAGE.finditer(view):
        begins = bool(page.group(1)[0] & _OGG_BEGINS)
        if begins and not in_head:
            yield view[begin : page.start()]
            begin = page.start()
        in_head = begins
    yield view[begin:]
