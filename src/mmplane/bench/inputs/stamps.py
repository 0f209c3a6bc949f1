"""Stamps: a note inside a file that changes its bytes, and so its content key, and not one pixel or sample.

All deliveries get the same pictures, so that the work is the same; the stamp of each turn keeps a cache from knowing
them from the turn before.
"""

from __future__ import annotations

import struct
import zlib


def stamped(media: bytes, note: bytes) -> bytes:
    """The same media with a note in it. JPEG, PNG, MP4 and WAV; raises ValueError for others."""
    if media.startswith(b"\xff\xd8"):
        return media[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + media[2:]
    if media.startswith(b"\x89PNG\r\n\x1a\n"):
        chunk = b"tEXt" + b"Comment\0" + note
        whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return media[:33] + whole + media[33:]  # behind the header chunk, which is the first and 25 bytes long
    if media[4:8] == b"ftyp":
        return media + struct.pack(">I", len(note) + 8) + b"free" + note
    if media.startswith(b"RIFF"):
        padded = note + b"\0" * (len(note) % 2)
        length = struct.unpack("<I", media[4:8])[0] + 8 + len(padded)
        return media[:4] + struct.pack("<I", length) + media[8:] + b"note" + struct.pack("<I", len(padded)) + padded
    raise ValueError("only JPEG, PNG, MP4 and WAV media can be stamped")
