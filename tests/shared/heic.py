"""HEIC files, as phones write them (ISO/IEC 23008-12): FFmpeg's H.265 in boxes of our own."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from typing import Any

import av
import numpy as np
from PIL import Image

GRID, OVERLAY = b"grid", b"iovl"


@dataclass(frozen=True)
class Item:
    """One of a file's items; `properties` as (kind, content), `of` are the numbers (from 1) of those it is made of."""

    kind: bytes
    content: bytes
    properties: tuple[tuple[bytes, bytes], ...] = field(default=())
    of: tuple[int, ...] = ()


def box(kind: bytes, *content: bytes) -> bytes:
    """A box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def coded(image: Image.Image, claimed: tuple[int, int] | None = None) -> Item:
    """A picture by x265, nearly without loss, which says that it has its size, or another."""
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *image.size, "yuv444p", Fraction(1)
    encoder.options = {"x265-params": "qp=4:log-level=none:pools=none:frame-threads=1", "preset": "ultrafast"}
    frame = av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
    stream = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode()))
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]
    sets = [unit for unit in units if unit[0] >> 1 in _SETS]
    content = b"".join(struct.pack(">I", len(unit)) + unit for unit in units if unit[0] >> 1 < _SETS[0])
    return Item(b"hvc1", content, ((b"ispe", _full(*(claimed or image.size))), (b"hvcC", _record(sets))))


_SETS = (32, 33, 34)
"""The types of a stream's parameter sets."""


def _record(sets: Sequence[bytes]) -> bytes:
    """The decoder's (ISO/IEC 14496-15, 8.3.3.1): 8 bits of 4:4:4, lengths of four bytes."""
    profile = next(each for each in sets if each[0] >> 1 == _SETS[1]).replace(b"\0\0\3", b"\0\0")[3:15]
    arrays = (struct.pack(">BHH", 0x80 | each[0] >> 1, 1, len(each)) + each for each in sets)
    return b"\1" + profile + bytes.fromhex("f000fcfff8f800000f") + bytes([len(sets)]) + b"".join(arrays)


def _full(*numbers: int) -> bytes:
    return struct.pack(f">{1 + len(numbers)}I", 0, *numbers)


def turn(quarters: int) -> tuple[bytes, bytes]:
    """The property that a picture is shown turned to the left."""
    return b"irot", bytes([quarters])


def mirror(axis: int) -> tuple[bytes, bytes]:
    """That it is mirrored."""
    return b"imir", bytes([axis])


def crop(width: int, height: int) -> tuple[bytes, bytes]:
    """That only its middle is shown."""
    return b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, 0, 1, 0, 1)


def heic(items: Sequence[Item], *, primary: int = 1, brands: bytes = b"heicmif1heic") -> bytes:
    """A file of these items."""
    numbered = list(enumerate(items, 1))
    properties = list(dict.fromkeys(each for item in items for each in item.properties))
    held = box(b"iprp", box(b"ipco", *(box(*each) for each in properties)), _associations(numbered, properties))
    infos = [box(b"infe", struct.pack(">IHH4sx", 2 << 24, number, 0, item.kind)) for number, item in numbered]
    references = [
        box(b"dimg", struct.pack(f">HH{len(item.of)}H", number, len(item.of), *item.of))
        for number, item in numbered
        if item.of
    ]

    def meta(begin: int) -> bytes:
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, primary)),
            _places(items, begin),
            box(b"iinf", struct.pack(">IH", 0, len(items)), *infos),
            box(b"iref", bytes(4), *references) if references else b"",
            held,
        )

    head = box(b"ftyp", brands[:4], bytes(4), brands[4:])
    begin = len(head) + len(meta(0)) + 8
    return head + meta(begin) + box(b"mdat", *(item.content for item in items))


def _associations(numbered: Sequence[tuple[int, Item]], properties: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Which properties each item has; all but sizes are essential."""

    def index(each: tuple[bytes, bytes]) -> int:
        return 1 + properties.index(each) | (0 if each[0] == b"ispe" else 0x80)

    entries = (
        struct.pack(">HB", number, len(item.properties)) + bytes(map(index, item.properties))
        for number, item in numbered
    )
    return box(b"ipma", _full(len(numbered)), *entries)


def _places(items: Sequence[Item], begin: int) -> bytes:
    """Where each item's content is."""
    starts = accumulate((len(item.content) for item in items), initial=begin)
    entries = (
        struct.pack(">HHHII", number, 0, 1, start, len(item.content))
        for number, (item, start) in enumerate(zip(items, starts, strict=False), 1)
    )
    return box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)), *entries)


def grid(image: Image.Image, side: int) -> bytes:
    """A picture in tiles, as iPhones write theirs; the last ones are cut off at its edges."""
    columns, rows = (-(-length // side) for length in image.size)
    whole = Image.new("RGB", (columns * side, rows * side))
    whole.paste(image)
    corners = [(x * side, y * side) for y in range(rows) for x in range(columns)]
    tiles = [coded(whole.crop((x, y, x + side, y + side))) for x, y in corners]
    return heic([grid_of(image.size, rows, columns, tuple(range(2, 2 + len(tiles)))), *tiles])


def grid_of(size: tuple[int, int], rows: int, columns: int, tiles: tuple[int, ...]) -> Item:
    """The item that lays out others."""
    content = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    return Item(GRID, content, ((b"ispe", _full(*size)),), tiles)


def overlay_of(size: tuple[int, int], parts: tuple[int, ...]) -> Item:
    """The item that lays others on each other."""
    content = struct.pack(">BB4HHH", 0, 0, 0, 0, 0, 0xFFFF, *size) + bytes(4 * len(parts))
    return Item(OVERLAY, content, ((b"ispe", _full(*size)),), parts)
