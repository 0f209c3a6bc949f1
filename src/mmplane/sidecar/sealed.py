"""Encoded media from a client: a memfd that is sealed against writing and shrinking.

Checked content cannot change, and no access to it can fault.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from mmplane.sidecar.session import Misuse

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK


def mapped(descriptor: int, length_bytes: int) -> memoryview:
    """Return the content, which stays mapped as long as the view lives. `descriptor` stays the caller's.

    Raises Misuse, and OSError if there is no room for a mapping.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise Misuse("media must be in a memfd") from None
    if seals & SEALS != SEALS or os.fstat(descriptor).st_size != length_bytes:
        raise Misuse("media must be in a memfd of the stated length that is sealed against writing and shrinking")
    return memoryview(mmap.mmap(descriptor, length_bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
