"""The boxes of ISO media files (ISO/IEC 14496-12), and how those of a picture (23008-12: AVIF, HEIC) give its size.

Pure, and bounded by `STEPS_MAX`. A picture is an item with properties. A HEIC's picture is coded, or a grid or an
overlay of coded ones, which may refer to the same one a thousand times. It would be decoded each time, so the pixels
are added up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice

STEPS_MAX = 4000
"""Maximum segments, chunks, boxes or entries that are read before the size is known."""

ITEMS_MAX = 1000
"""Maximum items in a HEIC, the same as libheif's."""

Size = tuple[int, int, int]
"""Width, height, orientation as in EXIF."""

AVIF_BRANDS = (b"avif", b"avis")
_CODED, _DERIVED = b"hvc1", (b"grid", b"iovl")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
COMMON_BRANDS = (b"mif1", b"msf1", b"mif2", b"miaf", b"1pic")
"""Brands that do not tell the coding."""
PARTS_PIXELS_OF_WHOLE_MAX = 4
"""Maximum pixels of a picture's parts per pixel of its own, because parts that are cut off are decoded too."""
PARTS_PIXELS_LEAST = 4_000_000
"""Pixels that the parts may have in any case."""


def begins_avif(head: bytes) -> bool:
    """Whether a file starts as an AVIF. If several codings are named, the first one counts."""
    return _coding(head) in (*AVIF_BRANDS, *COMMON_BRANDS)


def begins_heif(head: bytes) -> bool:
    """Whether a file starts as a HEIC, by its brands, or if they do not tell, by the coding of its items."""
    coding = _coding(head)
    return coding in HEIF_BRANDS or (coding in COMMON_BRANDS and b"hvcC" in head)


def _coding(head: bytes) -> bytes:
    """The first brand of a picture that tells its coding, or the major one."""
    if head[4:8] != b"ftyp" or head[8:12] not in (*AVIF_BRANDS, *HEIF_BRANDS, *COMMON_BRANDS):
        return b""
    beyond = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[at : at + 4] for at in (8, *range(16, beyond - 3, 4))]
    return next((brand for brand in brands if brand in (*AVIF_BRANDS, *HEIF_BRANDS)), brands[0])


def avif(view: memoryview) -> Size:
    """The primary item's size, rotation and mirror. Its EXIF is ignored, because libavif uses the transforms."""
    size, angle, axis = (0, 0), 0, None
    for kind, body in _Items(view).properties():
        if kind == b"ispe":
            size = struct.unpack_from(">II", body, 4)
        elif kind == b"irot":
            angle = body[0] & 3
        elif kind == b"imir":
            axis = body[0] & 1
    return *size, _AVIF_ORIENTATION[angle, axis]


_AVIF_ORIENTATION = {
    (0, None): 1, (0, 0): 4, (0, 1): 2,
    (1, None): 8, (1, 0): 5, (1, 1): 7,
    (2, None): 3, (2, 0): 2, (2, 1): 4,
    (3, None): 6, (3, 0): 7, (3, 1): 5,
}  # fmt: skip
"""EXIF orientation of (quarter turns to the left, axis of the mirror), as Pillow derives it."""


def heif(view: memoryview) -> Size:
    """The primary item's size after cropping and turning, in the order of its properties, as in libheif.

    Raises ValueError if it is neither a coded picture nor made of coded ones, or if pieces are missing, which libheif
    would replace by grey.
    """
    items = _Items(view)
    items.check_parts()
    width, height = items.size(items.primary)
    for kind, body in items.properties():
        if kind == b"clap":
            wide, of_width, high, of_height = struct.unpack_from(">IIII", body)
            width, height = min(width, wide // of_width), min(height, high // of_height)
        elif kind == b"irot" and body[0] & 1:
            width, height = height, width
    return width, height, 1


def is_rgb(view: memoryview) -> bool:
    """Whether an AVIF has colours and no alpha."""
    meta = dict(boxes(view))[b"meta"]
    colour = dict(boxes(dict(boxes(dict(boxes(meta[4:]))[b"iprp"]))[b"ipco"]))[b"av1C"]
    return not colour[2] & 0x10 and b"auxiliary:alpha" not in bytes(meta)


def boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and content of the boxes in a file or in another box."""
    at = 0
    for _ in range(STEPS_MAX):
        if at + 8 > len(view):
            return
        length, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, at + 8)
            head = 16
        elif length == 0:
            length = len(view) - at
        if length < head:
            return
        yield kind, view[at + head : at + length]
        at += length


class _Items:
    """A file's items. If bytes are missing it raises struct.error, LookupError or ValueError."""

    def __init__(self, view: memoryview) -> None:
        meta = next((body for kind, body in boxes(view) if kind == b"meta"), None)
        if meta is None:
            raise ValueError
        self._length_bytes = len(view)
        self._meta = dict(boxes(meta[4:]))
        primary = self._meta[b"pitm"]
        (self.primary,) = struct.unpack_from(">I" if primary[0] else ">H", primary, 4)
        properties = dict(boxes(self._meta[b"iprp"]))
        self._listed = list(boxes(properties[b"ipco"]))
        self._numbers = _associations(properties[b"ipma"])

    def properties(self, item: int | None = None) -> Iterator[tuple[bytes, memoryview]]:
        """Properties of an item, or of the primary one: kind and content, in order."""
        numbers, each_bytes = self._numbers[self.primary if item is None else item]
        mask = 0x7FFF if each_bytes == 2 else 0x7F
        for at in range(0, len(numbers), each_bytes):
            yield self._listed[(int.from_bytes(numbers[at : at + each_bytes], "big") & mask) - 1]

    def size(self, item: int) -> tuple[int, int]:
        """The coded size."""
        body = next(body for kind, body in self.properties(item) if kind == b"ispe")
        width, height = struct.unpack_from(">II", body, 4)
        return width, height

    def check_parts(self) -> None:
        """Raise ValueError if parts of the picture are not coded, missing, or far larger than the picture."""
        kinds = self._kinds()
        if kinds[self.primary] in _DERIVED:
            parts = self._parts_of_primary()
            width, height = self.size(self.primary)
            pixels = sum(wide * high for wide, high in map(cache(self.size), parts))
            if pixels > max(PARTS_PIXELS_OF_WHOLE_MAX * width * height, PARTS_PIXELS_LEAST):
                raise ValueError
        else:
            parts = (self.primary,)
        ends = self._ends()
        if any(kinds[part] != _CODED or ends[part] > self._length_bytes for part in parts):
            raise ValueError

    def _parts_of_primary(self) -> tuple[int, ...]:
        """The items that it is made of (23008-12, 6.4.2)."""
        references = self._meta[b"iref"]
        width = "I" if references[0] else "H"
        for kind, body in boxes(references[4:]):
            item, count = struct.unpack_from(f">{width}H", body)
            if kind == b"dimg" and item == self.primary:
                if count > ITEMS_MAX:
                    raise ValueError
                return struct.unpack_from(f">{count}{width}", body, 2 + struct.calcsize(f">{width}"))
        raise ValueError

    def _kinds(self) -> dict[int, bytes]:
        """The kind of each item (14496-12, 8.11.6)."""
        info = self._meta[b"iinf"]
        kinds = dict[int, bytes]()
        for _, entry in islice(boxes(info[8 if info[0] else 6 :]), ITEMS_MAX):
            item, _, kind = struct.unpack_from(">IH4s" if entry[0] >= 3 else ">HH4s", entry, 4)
            kinds[item] = kind
        return kinds

    def _ends(self) -> dict[int, int]:
        """Where in the file each item's bytes end (14496-12, 8.11.3); 0 for those in a separate box."""
        table = self._meta[b"iloc"]
        version, wide = table[0], table[0] >= 2
        offset_bytes, length_bytes = table[4] >> 4, table[4] & 15
        base_bytes, index_bytes = table[5] >> 4, table[5] & 15 if version else 0
        read, ends, left = _Reader(table, 6), dict[int, int](), STEPS_MAX
        for _ in range(min(read(4 if wide else 2), ITEMS_MAX)):
            item = read(4 if wide else 2)
            in_file = not (version and read(2) & 15)
            read(2)
            base, end = read(base_bytes), 0
            count = read(2)
            left -= count
            if left < 0:
                raise ValueError
            for _ in range(count):
                read(index_bytes)
                end = max(end, base + read(offset_bytes) + read(length_bytes))
            ends[item] = end if in_file else 0
        return ends


class _Reader:
    """Reads numbers one after the other. Raises ValueError at the end."""

    def __init__(self, table: memoryview, at: int) -> None:
        self._table = table
        self._at = at

    def __call__(self, length_bytes: int) -> int:
        self._at += length_bytes
        if self._at > len(self._table):
            raise ValueError
        return int.from_bytes(self._table[self._at - length_bytes : self._at], "big")


def _associations(table: memoryview) -> dict[int, tuple[memoryview, int]]:
    """For each item the numbers (from 1) of its properties, and the bytes of each number."""
    version, each_bytes = table[0], 2 if table[3] & 1 else 1
    (count,) = struct.unpack_from(">I", table, 4)
    at, found = 8, dict[int, tuple[memoryview, int]]()
    for _ in range(min(count, STEPS_MAX)):
        (item,) = struct.unpack_from(">I" if version else ">H", table, at)
        at += 4 if version else 2
        beyond = at + 1 + table[at] * each_bytes
        found.setdefault(item, (table[at + 1 : beyond], each_bytes))
        at = beyond
    return found
