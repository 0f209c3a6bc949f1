"""Bytes that one process hands to another by a descriptor: in no argument, environment or file that others read."""

from __future__ import annotations

import fcntl
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def hand_over(name: str, content: bytes) -> int:
    """A descriptor of memory that holds `content` and cannot change; the caller's to close. /proc shows `name`."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def handed(descriptor: int) -> bytes:
    """What is in it."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
