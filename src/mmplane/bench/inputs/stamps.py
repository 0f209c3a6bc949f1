"""Stamps: a note in a file that changes its bytes, and thus its content key, but no pixel or sample.

All deliveries get the same pictures, so that the work is the same. Each turn has its own stamp, so that no cache knows
the pictures from an earlier turn.
"""

from __future__ import annotations

import struct
import zlib


def stamped(media: bytes, note: bytes) -> bytes:
    """Return the same media with a note in it. JPEG, PNG, MP4 and WAV; raises ValueError for other files."""
    if media.startswith(b"\xff\xd8"):
        return media[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + media[2:]
    if media.startswith(b"\x89PNG\r\n\x1a\n"):
        chunk = b"tEXt" + b"Comment\0" + note
        whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return media[:33] + whole + media[33:]  # after the header chunk, which is the first and 25 bytes long
    if media[4:8] == b"ftyp":
        return media + struct.pack(">I", len(note) + 8) + b"free" + note
    if media.startswith(b"RIFF"):
        padded = note + b"\0" * (len(note) % 2)
        length = struct.unpack("<I", media[4:8])[0] + 8 + len(padded)
        return media[:4] + struct.pack("<I", length) + media[8:] + b"note" + struct.pack("<I", len(padded)) + padded
    raise ValueError("only JPEG, PNG, MP4 and WAV media can be stamped")
