"""A region's label: the page after its last byte, which says which plane it belongs to and whether it has an owner.

Offsets and generations mean nothing in another plane. A descriptor's number can come to refer to another file, and one
process may use several planes. So every plane has a random id, which is in the label of each of its regions and in each
record. Every process compares them when it maps a region or opens a record.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from mmplane.arena.errors import ForeignRegion, Owned
from mmplane.arena.segment import create_region

PLANE_BYTES = 16
LABEL_BYTES = mmap.PAGESIZE
_LAYOUT = struct.Struct(f"<8sI{PLANE_BYTES}sIQ")
"""Magic, version, plane, region, length in bytes. The following byte is 1 once the region has an owner."""
_MAGIC = b"mmplane\0"
VERSION = 1


def new_plane() -> bytes:
    """Create the id of a new plane."""
    return os.urandom(PLANE_BYTES)


def create_labelled(name: str, length_bytes: int, plane: bytes, region: int) -> int:
    """Create a region of a plane: `length_bytes` for slots (whole pages), then its label. Like `create_region`."""
    assert length_bytes % mmap.PAGESIZE == 0, length_bytes
    fd = create_region(name, length_bytes + LABEL_BYTES)
    os.pwrite(fd, _LAYOUT.pack(_MAGIC, VERSION, plane, region, length_bytes), length_bytes)
    return fd


def check_label(fd: int, length_bytes: int, plane: bytes, region: int) -> None:
    """Raise ForeignRegion if this is not that region of that plane."""
    found = os.pread(fd, _LAYOUT.size, length_bytes)
    if found != _LAYOUT.pack(_MAGIC, VERSION, plane, region, length_bytes):
        raise ForeignRegion("the region is not of this plane: its owner has ended, or the address is of another plane")


def plane_of(fd: int, length_bytes: int) -> bytes:
    """The plane in the label of a region. Raises ForeignRegion if there is no label."""
    found = os.pread(fd, _LAYOUT.size, length_bytes)
    plane, region = _LAYOUT.unpack(found)[2:4] if len(found) == _LAYOUT.size else (b"", 0)
    check_label(fd, length_bytes, plane, region)
    return bytes(plane)


def own(fd: int, length_bytes: int) -> None:
    """Become the only owner of a region, for good: the bookkeeping ends with its process. Raises Owned."""
    mark = length_bytes + _LAYOUT.size
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        if os.pread(fd, 1, mark) != b"\0":
            raise Owned("the region has, or had, another owner: create a new address for this owner")
        os.pwrite(fd, b"\1", mark)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
