"""How a rank tells the plane that it has joined, and that a lease has ended: fixed messages through one pipe.

A rank never waits: the plane hands out no more leases than the pipe has room for their ends (`capacity`). A message is
16 bytes, and a write of so few is whole or not at all, so messages of several ranks do not mix.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import NamedTuple

_LAYOUT = struct.Struct("<QII")
_READ_MESSAGES = 4096

JOINED = 0
"""The number of no lease: this rank has mapped the region and will end what it is lent."""


class Release(NamedTuple):
    """One message: this rank, a process of that number, has ended its share of that lease."""

    lease: int
    rank: int
    pid: int


def capacity(fd: int) -> int:
    """How many messages the pipe holds."""
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // _LAYOUT.size


def tell_nowait(fd: int, lease: int, rank: int) -> None:
    """Write one message. Raises BlockingIOError if the pipe is full, which only a foreign writer can bring about."""
    os.write(fd, _LAYOUT.pack(lease, rank, os.getpid()))


def hear_nowait(fd: int) -> list[Release]:
    """What has been told since the last call, at most some thousand messages."""
    try:
        messages = os.read(fd, _READ_MESSAGES * _LAYOUT.size)
    except BlockingIOError:
        return []
    whole_bytes = len(messages) - len(messages) % _LAYOUT.size
    return [Release(*fields) for fields in _LAYOUT.iter_unpack(messages[:whole_bytes])]
