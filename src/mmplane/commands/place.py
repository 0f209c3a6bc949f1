"""The path of a sidecar's socket."""

from __future__ import annotations

import grp
import os
import socket
from contextlib import suppress
from pathlib import Path


class Place:
    """The socket's path. It is bound under another name, and gets its own name once the sidecar is ready.

    So a path that exists and accepts is a sidecar that works; one that a killed sidecar has left is replaced. Raises
    ValueError when another one serves there, and for what is no socket.
    """

    def __init__(self, path: Path, group: str) -> None:
        if not path.name:
            raise ValueError(f"--socket: {str(path)!r} is not the path of a socket")
        if path.exists() and not path.is_socket():
            raise ValueError(f"--socket: {path} is there already, and is not a socket")
        group_id = _group_id(group) if group else -1
        self._path = path
        self._bound = path.with_name(f"{path.name}.{os.getpid()}")
        if _is_served(path):
            raise ValueError(f"--socket: another sidecar serves at {path}")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = os.umask(0o177)
        try:
            self.listener.bind(str(self._bound))
        except OSError as error:
            raise ValueError(f"--socket: cannot bind {path}: {error.strerror}") from None
        finally:
            os.umask(mask)
        if group:
            self._give(group, group_id)
        self._inode = self._bound.stat().st_ino

    def _give(self, group: str, group_id: int) -> None:
        try:
            os.chown(self._bound, -1, group_id)
            self._bound.chmod(0o660)
        except OSError as error:
            self._bound.unlink()
            raise ValueError(f"--socket-group: {self._path} cannot be given to {group}: {error.strerror}") from None

    def take(self) -> None:
        """The sidecar is ready."""
        self._bound.rename(self._path)

    def leave(self) -> None:
        """The sidecar has ended. A successor's socket stays."""
        self.listener.close()
        for path in (self._bound, self._path):
            with suppress(OSError):
                if path.stat().st_ino == self._inode:
                    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
        return True


def _group_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"--socket-group: there is no group {name}") from None
