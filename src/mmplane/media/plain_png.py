"""Decodes plain PNGs: 8-bit grey, RGB or RGBA, not interlaced, without a transparent colour, and whole.

All rows are inflated at once, and a compiled loop undoes their filters (`mmplane.features.arithmetic.scanlines`). This
takes about half as long as libpng.

Anything unusual is left to the other decoders, which also know what is wrong with it: another kind of pixels, pixels in
several places, something other than their end after them, a stream that is damaged or has another length than the rows.
The chunks' checksums are not compared. Pillow does not compare those of pixels either, and Adler-32 covers the same
bytes.

libdeflate is the fastest to inflate. It also accepts Huffman codes that zlib refuses, because they are incomplete or
have too many symbols. No encoder writes them, and damage does not leave Adler-32 right, but a file could be made for
it. Where a file must be refused if Pillow refuses it, zlib-ng inflates, which checks what zlib does.
"""

from __future__ import annotations

from typing import Any

from mmplane.features.arithmetic.scanlines import Scanlines
from mmplane.features.contract.image import Pixels
from mmplane.media.png import CHUNK_HEAD_BYTES, pixel_chunks

try:
    from imagecodecs import deflate_decode, zlibng_decode
except ImportError:  # pragma: no cover
    deflate_decode = zlibng_decode = None  # type: ignore[assignment]

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""By Pillow's mode. With 8 bits, its name for the pixels in the file is the same."""
STORED_BYTES, EXTRA_BYTES = 8, 4096
"""A stream is at most longer than the rows by one byte in `STORED_BYTES`, and by `EXTRA_BYTES`, so that its copy is
within the memory that is reserved. deflate adds five bytes to 16 kilobytes or more that it cannot compress.
"""


def decode(media: bytes | memoryview, image: Any, *, strict: bool) -> Pixels | None:
    """Decode a plain PNG into (height, width, channels) uint8, C order; None if it is not one.

    `image` is what Pillow opened, without having decoded it: the whole picture. With `strict`, the stream is one that
    zlib accepts.
    """
    [tile] = image.tile
    if image.mode not in CHANNELS or tile.args != image.mode or "interlace" in image.info:
        return None
    chunks = pixel_chunks(media, tile.offset - CHUNK_HEAD_BYTES)
    lines = Scanlines(image.height, image.width, CHANNELS[image.mode])
    rows_bytes = len(lines.filtered)
    if not 0 < sum(map(len, chunks)) <= rows_bytes + rows_bytes // STORED_BYTES + EXTRA_BYTES:
        return None
    stream = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return lines.pixels() if _inflate(stream, lines.filtered, strict=strict) else None


def _inflate(stream: bytes | memoryview, rows: memoryview, *, strict: bool) -> bool:
    """Fill `rows` exactly; False if the stream is damaged or has another length."""
    inflate = zlibng_decode if strict else deflate_decode
    try:
        return len(inflate(stream, out=rows)) == len(rows)  # type: ignore[arg-type]  # any buffer will do
    except Exception:  # noqa: BLE001 - they are missing, or Pillow decides what is damaged
        return False
