"""A PNG's chunks: which of them are pixels, and whether anything follows those. Pure.

Texts, profiles and times are never used, so an error in one of them must not make the picture unusable. ComfyUI and
Photoshop write megabytes of text, which Pillow refuses, and it also refuses a wrong checksum.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from mmplane.media.boxes import STEPS_MAX

CHUNKS_MAX = 100_000
"""Maximum chunks that are read: encoders put eight kilobytes of pixels into each. With more, the file is not changed.
"""
CHUNK_HEAD_BYTES = 8
"""A chunk's length and name, before its contents."""
_KEPT = b"tRNS"
_ANCILLARY = 0x20
"""Bit in the first letter of a chunk's name (ISO/IEC 15948, 5.4): the picture can be shown without it."""


def pixels_alone(media: bytes | memoryview) -> bytes | memoryview:
    """Return the PNG without chunks that its first picture does not need; `media` itself if there are none."""
    view = memoryview(media)
    runs, begin, at = list[memoryview](), 0, 8
    for _ in range(CHUNKS_MAX):
        if at + 12 > len(view):
            break
        length, kind = struct.unpack_from(">I4s", view, at)
        beyond = at + 12 + length
        if kind[0] & _ANCILLARY and kind != _KEPT:
            runs.append(view[begin:at])
            begin = beyond
        at = beyond
    return b"".join((*runs, view[begin:])) if begin else media


def pixel_chunks(media: bytes | memoryview, at: int) -> list[memoryview]:
    """Return the contents of the chunks of pixels from `at` on. There are none unless the file ends after them."""
    view, chunks = memoryview(media), list[memoryview]()
    for _ in range(CHUNKS_MAX):
        if at + 12 > len(view):
            break
        length, kind = struct.unpack_from(">I4s", view, at)
        if kind == b"IEND":
            return chunks
        if kind != b"IDAT" or at + 12 + length > len(view):
            break
        chunks.append(view[at + 8 : at + 8 + length])
        at += 12 + length
    return []


def says_no_more(media: bytes | memoryview) -> bool:
    """Whether a PNG ends with its pixels. After them there may be chunks that Pillow reads once they are decoded."""
    view = memoryview(media)
    at, seen = 8, False
    with suppress(struct.error):
        for _ in range(STEPS_MAX):
            length, kind = struct.unpack_from(">I4s", view, at)
            if seen and kind != b"IDAT":
                return bool(kind == b"IEND")
            seen = kind == b"IDAT"
            at += 12 + length
    return False
