"""The process at the other end of a UNIX socket: its user, and a handle of the process.

The handle comes from the socket itself (SO_PEERPIDFD, Linux 6.5), because a process number means nothing in another
PID namespace and can be reused. On older kernels, if the number is visible, the handle is opened by number.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """`pid` is 0 if the process is in a PID namespace that is not visible here. The holder has to close `pidfd`."""

    pid: int
    uid: int
    pidfd: int


def peer_of(end: socket.socket) -> Peer:
    """Return the connected process. Raises OSError if there is no handle, because its exit could not be detected."""
    pid, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        pidfd = end.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        if pid == 0:
            raise
        pidfd = os.pidfd_open(pid)
    os.set_inheritable(pidfd, False)
    return Peer(pid, uid, pidfd)
