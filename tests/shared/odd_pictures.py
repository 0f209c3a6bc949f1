"""Picture files that no encoder here writes: chunks and filters of a PNG, a BMP with an alpha channel."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image

XMP_6 = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
"""The text of a PNG that says that it is to be turned."""


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG's."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def long_text(length_bytes: int = 2_000_000) -> bytes:
    """A chunk with so much of compressed text, as ComfyUI and Photoshop write it."""
    return chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"node " * (length_bytes // 5)))


def wrong_checksum() -> bytes:
    """A chunk of text."""
    return chunk(b"tEXt", b"Comment\0hello")[:-1] + b"\xff"


def exif_chunk(orientation: int) -> bytes:
    """That a picture is to be turned, where cameras say it."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return chunk(b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0"))


def png_with(image: Image.Image, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A PNG with these chunks before and behind its pixels."""
    file = io.BytesIO()
    image.save(file, "PNG")
    media = file.getvalue()
    return media[:33] + before + media[33:-12] + behind + media[-12:]


def bmp_with_alpha(image: Image.Image, alpha: int) -> bytes:
    """A BMP of 32 bits with a mask for alpha (BITMAPV4HEADER), which is the same everywhere."""
    pixels = image.convert("RGB")
    pixels.putalpha(alpha)
    rows = pixels.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(rows), 2835, 2835, 0, 0) + masks + b"BGRs"
    head = head.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


def filtered(pixels: np.ndarray, filters: Sequence[int]) -> bytes:
    """The rows of (height, width, channels) uint8 behind a PNG's filters, one for each, as ISO/IEC 15948 has them."""
    channels = pixels.shape[2]
    rows = pixels.reshape(len(pixels), -1).astype(np.int16)
    left, above, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, channels:] = rows[:, :-channels]
    above[1:] = rows[:-1]
    corner[1:, channels:] = rows[:-1, :-channels]
    predicted = [np.zeros_like(rows), left, above, (left + above) // 2, paeth(left, above, corner)]
    return b"".join(
        bytes([each]) + (rows[y] - predicted[min(each, 4)][y]).astype(np.uint8).tobytes()
        for y, each in enumerate(filters)
    )


def paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """ISO/IEC 15948, 9.4, of arrays of int16."""
    sum_ = left + above - corner
    of_left, of_above, of_corner = (np.abs(sum_ - each) for each in (left, above, corner))
    nearer = np.where(of_above <= of_corner, above, corner)
    return np.where((of_left <= of_above) & (of_left <= of_corner), left, nearer)


def png_of(size: tuple[int, int], colour: int, *chunks: bytes, interlaced: int = 0, depth: int = 8) -> bytes:
    """A PNG with these chunks between its header and its end."""
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")
