"""Standard output and error that nobody has to read: writing never waits, and nothing fails when the reader goes away.

A pipe or terminal is opened again for this server, so that making it non-blocking does not affect other processes that
share it. For a socket (systemd's journal), each write asks not to wait. A file never waits.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

REST_BYTES_MAX = 64 * 1024


def release(descriptor: int) -> None:
    """Make writing to this pipe or terminal non-blocking, for this process and later ones."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):  # another user's terminal: it stays as it is
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(opened, descriptor)
            os.close(opened)


class Output:
    """Writes whole texts to a descriptor, or drops and counts them. The caller reports and resets `dropped`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._rest = b""
        self.dropped = 0

    def write(self, text: str) -> None:
        """Write a text now or not at all. The rest of a text that did not fit is written before the next one."""
        if self._rest:
            self._rest = self._rest[self._written(self._rest) :]
        if self._rest:
            self.dropped += 1
            return
        content = text.encode(errors="replace")
        count = self._written(content)
        if count:
            self._rest = content[count:][:REST_BYTES_MAX]
        else:
            self.dropped += 1

    def _written(self, content: bytes) -> int:
        try:
            if self._is_socket:
                with socket.socket(fileno=os.dup(self._descriptor)) as end:
                    return end.send(content, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self._descriptor, content)
        except OSError:  # it is full, or there is no reader any more
            return 0
