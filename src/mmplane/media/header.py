"""Reads an image's size and orientation from its header: pure Python, in microseconds for any file.

The front end reads headers of hostile files on its event loop. So nothing here is native code, and no loop runs more
than `STEPS_MAX` times, however many segments, chunks or entries a file claims to have. If Pillow would see another size
in a strange file, `mmplane.media.image.decode` detects and refuses it.

There is one rule of orientation for all formats. If the format itself defines how to show its pixels (TIFF's tag, the
items' properties of AVIF and HEIC, JPEG XL's image metadata), only that counts. For the others (JPEG, PNG, WebP) the
EXIF counts, wherever it is in the file, and if there is none the XMP. Browsers show them in the same way.

Sources: ITU-T T.81 (JPEG), ISO/IEC 15948 (PNG), GIF89a, TIFF 6.0, JEITA CP-3451 (EXIF), RFC 9649 (WebP), and Pillow's
behaviour where they leave room. `mmplane.media.boxes` and `mmplane.media.jpegxl` read the other formats.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile

from mmplane.core.errors import bad_media
from mmplane.media import boxes, jpegxl
from mmplane.media.boxes import STEPS_MAX, Size

HEAD_BYTES = 4096
"""How many bytes at the beginning of a file determine its format."""
FOREIGN = ("HEIF", "JPEGXL")
"""Formats that Pillow does not support."""
TURNED = ("TIFF", *FOREIGN)
"""Formats that the decoder turns itself: the size is that after the turn."""
METADATA_BYTES_MAX = 128 * 1024
"""Maximum bytes of one piece of EXIF or XMP; an orientation beyond them is ignored."""

_SCAN_START = b"\xff\xda"
_SCAN_OR_END = re.compile(b"\xff[\xda\xd9]")


@dataclass(frozen=True)
class ImageHeader:
    """What is known before any pixel is decoded. Sides in pixels after EXIF orientation; format by Pillow's name.

    `orientation` is what still has to be undone after decoding, 1 to 8 as in EXIF.
    """

    width: int
    height: int
    format: str
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height before the orientation is undone, as a decoder returns them."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def as_stored(self) -> ImageHeader:
        """The header of the same file for loaders that do not undo its orientation."""
        return ImageHeader(*self.stored, self.format)


def read_header(media: bytes | memoryview) -> ImageHeader:
    """Read the header of an image in a supported format. Raises RequestError (400)."""
    view = memoryview(media)
    head = bytes(view[:HEAD_BYTES])
    try:
        for matches, name, read in _READERS:
            if matches(head):
                width, height, orientation = read(view)
                if orientation >= 5:
                    width, height = height, width
                return ImageHeader(width, height, name, 1 if name in TURNED else orientation)
    except (struct.error, LookupError, ValueError, OverflowError):
        pass
    raise bad_media(f"the image is damaged, or its format is not supported: send {_SPOKEN}")


def is_rgb(media: bytes | memoryview) -> bool:
    """Whether Pillow opens the image in mode RGB: no grey, palette, alpha or CMYK. False if it is not an image."""
    view = memoryview(media)
    head = bytes(view[:HEAD_BYTES])
    try:
        return next((_IS_RGB[name](view) for matches, name, _ in _READERS if matches(head)), False)
    except (struct.error, LookupError, ValueError, OverflowError):
        return False


def _jpeg(view: memoryview) -> Size:
    size: tuple[int, int] | None = None
    exif = xmp = b""
    for marker, at, length in _segments(view):
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", view, at + 3)
            size = width, height
        elif marker == 0xE1:
            segment = bytes(view[at + 2 : at + length])
            if segment.startswith(b"Exif\0\0"):
                exif = exif or segment
            elif segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = segment
    if size is None:
        raise ValueError
    return *size, _orientation(exif) or _orientation_in_xmp(xmp) or 1


def _segments(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield a JPEG's segments up to the header of its first scan: marker, position of the length, length."""
    at, marker = 2, 0
    for _ in range(STEPS_MAX):
        if marker == _SCAN_START[1]:
            return
        if view[at] != 0xFF:  # junk between segments
            at += 1
            continue
        marker = view[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        at += 2
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # markers without content
            continue
        (length,) = struct.unpack_from(">H", view, at)
        yield marker, at, length
        at += max(length, 2)


def jpeg_scans(media: bytes | memoryview, most: int) -> int:
    """Count a JPEG's scans, up to `most`. Each is a pass over all pixels, and may be a few bytes long.

    If it is sequential and its first scan has all components, decoders refuse another one, so the file is not searched.
    """
    view = memoryview(media)
    try:
        *heads, (last, at, _) = _segments(view)
        frames = [(marker, view[start + 7]) for marker, start, _ in heads if marker in _FRAMES]
        if last == _SCAN_START[1] and frames in ([(0xC0, view[at + 2])], [(0xC1, view[at + 2])]):
            return 1
    except (struct.error, LookupError, ValueError):
        return 0
    further = takewhile(lambda found: found.group() == _SCAN_START, _SCAN_OR_END.finditer(view, at))
    return 1 + sum(1 for _ in islice(further, most - 1))


def is_arithmetic(media: bytes | memoryview) -> bool:
    """Whether a JPEG uses arithmetic coding (T.81, table B.1: SOF9 on). If it is damaged, Pillow shows grey."""
    view = memoryview(media)
    with suppress(struct.error, LookupError, ValueError):
        return any(marker in _FRAMES and marker > 0xC8 for marker, _, _ in _segments(view))
    return False


def _png(view: memoryview) -> Size:
    """The orientation in a PNG: EXIF may come after the pixels, and XMP is a text."""
    width, height = struct.unpack_from(">II", view, 16)
    at, exif, xmp, has_pixels = 8, b"", b"", False
    for _ in range(STEPS_MAX):
        if has_pixels and at + 8 > len(view):
            break
        length, kind = struct.unpack_from(">I4s", view, at)
        body = view[at + 8 : at + 8 + min(length, METADATA_BYTES_MAX)]
        if kind == b"eXIf" and not exif:
            exif = bytes(body)
        elif kind == b"iTXt" and not xmp and body[: len(_PNG_XMP)] == _PNG_XMP:
            xmp = bytes(body)
        elif kind == b"IEND":
            break
        has_pixels = has_pixels or kind == b"IDAT"
        at += 12 + length
    if not has_pixels and kind != b"IEND":
        raise ValueError
    return width, height, _orientation(exif) or _orientation_in_xmp(xmp) or 1


_PNG_XMP = b"XML:com.adobe.xmp\0\0"
"""The keyword of such a text, which must not be compressed."""


def _gif(view: memoryview) -> Size:
    width, height, flags = struct.unpack_from("<HHB", view, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    inside = False  # an extension is a run of blocks, the last of which is empty
    for _ in range(STEPS_MAX):
        if inside:
            inside = view[at] != 0
            at += 1 + view[at]
        elif view[at] == 0x2C:
            x, y, frame_width, frame_height = struct.unpack_from("<HHHH", view, at + 1)
            return max(width, x + frame_width), max(height, y + frame_height), 1
        elif view[at] == 0x21:
            inside = True
            at += 2
        else:  # junk
            at += 1
    raise ValueError


def _bmp(view: memoryview) -> Size:
    (length,) = struct.unpack_from("<I", view, 14)
    if length == 12:
        return *struct.unpack_from("<HH", view, 18), 1
    width, height = struct.unpack_from("<ii", view, 18)
    return abs(width), abs(height), 1


def _tiff(view: memoryview) -> Size:
    """Pillow turns these itself, and reports the size after the turn."""
    order = "<" if view[0] == 0x49 else ">"
    tags = _tags(view, order, big=43 in bytes(view[2:4]))
    orientation = tags.get(274, 1)
    return tags[256], tags[257], orientation if orientation <= 8 else 1


def _webp(view: memoryview) -> Size:
    size: tuple[int, int] | None = None
    exif = xmp = b""
    at = 12
    for _ in range(STEPS_MAX):
        if at + 8 > len(view):
            break
        kind, length = struct.unpack_from("<4sI", view, at)
        body = at + 8
        if kind == b"VP8X" and size is None:
            size = _three_bytes(view, body + 4) + 1, _three_bytes(view, body + 7) + 1
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", view, body + 1)
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", view, body + 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"EXIF":
            exif = bytes(view[body : body + min(length, METADATA_BYTES_MAX)])
        elif kind == b"XMP ":
            xmp = bytes(view[body : body + min(length, METADATA_BYTES_MAX)])
        at = body + length + (length & 1)
    if size is None:
        raise ValueError
    return *size, _orientation(exif) or _orientation_in_xmp(xmp) or 1


def _three_bytes(view: memoryview, at: int) -> int:
    return int.from_bytes(view[at : at + 3], "little")


def _orientation(exif: bytes) -> int:
    """The orientation in a piece of EXIF, or 0. Damaged EXIF is ignored, as in browsers."""
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM"):
        return 0
    try:
        found = _tags(memoryview(exif), "<" if exif[:2] == b"II" else ">", big=False).get(274, 0)
    except (struct.error, IndexError):
        return 0
    return found if 1 <= found <= 8 else 0


def _orientation_in_xmp(xmp: bytes) -> int:
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    return int(found.group(1)) if found else 0


def _tags(view: memoryview, order: str, *, big: bool) -> dict[int, int]:
    """The integers of the first directory by tag, if they fit into the entry."""
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), view, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), view, at)
    at += 8 if big else 2
    length, value_at = (20, 12) if big else (12, 8)
    tags: dict[int, int] = {}
    for _ in range(min(count, STEPS_MAX)):
        tag, kind = struct.unpack_from(order + "HH", view, at)
        if kind in _WHOLE:
            (tags[tag],) = struct.unpack_from(order + _WHOLE[kind], view, at + value_at)
        at += length
    return tags


_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""TIFF's integer types: BYTE, SHORT, LONG, LONG8."""

_READERS: tuple[tuple[Callable[[bytes], bool], str, Callable[[memoryview], Size]], ...] = (
    (lambda head: head[:3] == b"\xff\xd8\xff", "JPEG", _jpeg),
    (lambda head: head[:8] == b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (lambda head: head[:6] in (b"GIF87a", b"GIF89a"), "GIF", _gif),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", "WEBP", _webp),
    (boxes.begins_heif, "HEIF", boxes.heif),
    (boxes.begins_avif, "AVIF", boxes.avif),
    (jpegxl.begins, "JPEGXL", jpegxl.size),
    (lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF", _tiff),
    (lambda head: head[:2] == b"BM", "BMP", _bmp),
)
"""How a file starts, its format, and the function that reads its size."""


def _jpeg_is_rgb(view: memoryview) -> bool:
    return any(marker in _FRAMES and view[at + 7] == 3 for marker, at, _ in _segments(view))


def _png_is_rgb(view: memoryview) -> bool:
    return view[25] == 2


def _webp_is_rgb(view: memoryview) -> bool:
    kind, flags, lossless = bytes(view[12:16]), view[20], view[24]
    return kind == b"VP8 " or (kind == b"VP8X" and not flags & 0x10) or (kind == b"VP8L" and not lossless & 0x10)


def _bmp_is_rgb(view: memoryview) -> bool:
    (length,) = struct.unpack_from("<I", view, 14)
    if length == 12:
        return bool(struct.unpack_from("<H", view, 24)[0] == 24)
    bits, compression = struct.unpack_from("<HI", view, 28)
    masked = bits == 32 and compression == 3 and length >= 56
    return bits in (16, 24, 32) and not (masked and struct.unpack_from("<I", view, 66)[0])


def _tiff_is_rgb(view: memoryview) -> bool:
    tags = _tags(view, "<" if view[0] == 0x49 else ">", big=43 in bytes(view[2:4]))
    return tags.get(262) in (2, 6) and tags.get(277) == 3


_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_IS_RGB: dict[str, Callable[[memoryview], bool]] = {
    "JPEG": _jpeg_is_rgb,
    "PNG": _png_is_rgb,
    "GIF": lambda _: False,
    "WEBP": _webp_is_rgb,
    "AVIF": boxes.is_rgb,
    "HEIF": lambda _: False,
    "JPEGXL": lambda _: False,
    "TIFF": _tiff_is_rgb,
    "BMP": _bmp_is_rgb,
}
_SPOKEN = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG XL"
FORMATS = tuple(name for _, name, _ in _READERS if name not in FOREIGN)
"""Pillow's names of the formats that it may decode; no other is tried. A phone's JPEG may be reported as MPO."""
