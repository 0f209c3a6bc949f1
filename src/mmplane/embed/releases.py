"""How a rank reports to the plane that it has joined, and that a lease has ended: fixed messages through one pipe.

A rank never waits: the plane gives out no more leases than the pipe has room for their ends (`capacity`). A message is
16 bytes. Such a short write is complete or has no effect, so messages of several ranks are not mixed up.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from typing import NamedTuple

_LAYOUT = struct.Struct("<QII")
_READ_MESSAGES = 4096

JOINED = 0
"""Not a lease: this rank has mapped the region and will end what is leased to it."""


class Release(NamedTuple):
    """One message: this rank, a process with this pid, has ended its share of this lease."""

    lease: int
    rank: int
    pid: int


def capacity(fd: int) -> int:
    """How many messages the pipe holds."""
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // _LAYOUT.size


def tell_nowait(fd: int, lease: int, rank: int) -> None:
    """Write one message. Raises BlockingIOError if the pipe is full, which only a foreign writer can cause.

    If nobody reads the pipe any more, because the mirror on this machine has ended, there is nothing to report.
    """
    with suppress(BrokenPipeError):
        os.write(fd, _LAYOUT.pack(lease, rank, os.getpid()))


def hear_nowait(fd: int) -> list[Release]:
    """The messages since the last call, at most some thousand."""
    try:
        messages = os.read(fd, _READ_MESSAGES * _LAYOUT.size)
    except BlockingIOError:
        return []
    whole_bytes = len(messages) - len(messages) % _LAYOUT.size
    return [Release(*fields) for fields in _LAYOUT.iter_unpack(messages[:whole_bytes])]
