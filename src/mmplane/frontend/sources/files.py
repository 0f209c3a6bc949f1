"""Media from files in one folder that the operator names (hazard S11). Off unless there is such a folder.

A network file system may hang, so files are read in separate threads, and only readers of files wait for it.

The kernel resolves the path beneath the folder's descriptor (`openat2`, RESOLVE_BENEATH). `..`, an absolute symbolic
link and a link that is replaced during the access cannot lead out of the folder, because there is no time between check
and use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from mmplane.core.errors import RequestError, bad_media, bad_request, too_large
from mmplane.frontend.sources.fetch import MEDIA_BYTES_MAX
from mmplane.waiting.threads import Threads

_SYS_OPENAT2 = 437
"""The number is the same on every architecture: openat2 is newer than the common table of system calls."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Files:
    """Regular files beneath `root`. Raises ValueError if that is not a folder or the kernel has no openat2."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).resolve()
        try:
            self._descriptor = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.close(open_beneath(self._descriptor, "."))
        except OSError as error:
            raise ValueError(f"--media-root: {error.strerror}") from None
        self._threads = Threads("files")

    async def load(self, url: str, grow: Callable[[int], None], *, tenant: str = "") -> bytes:
        """Return the file of `file:///path`, an absolute path in the folder; `grow` gets its length first.

        Raises RequestError: 413, or 400 with the same text whether the file is missing, outside or not a regular file.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise bad_request("invalid_url", "the media's URL cannot be parsed") from None
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or "\0" in path:
            raise bad_request("invalid_url", "the media's URL does not name a file")
        if not path.startswith(f"{self._root}/"):
            raise _unreadable()
        path = path.removeprefix(f"{self._root}/")
        length_bytes = await self._threads.call(tenant, path, self._length_bytes, path)
        grow(length_bytes)
        return await self._threads.call(tenant, path, self._read, path, length_bytes)

    def close(self) -> None:
        """Close the folder."""
        self._threads.close()
        os.close(self._descriptor)

    def _length_bytes(self, path: str) -> int:
        file, length_bytes = self._open(path)
        file.close()
        return length_bytes

    def _read(self, path: str, length_bytes: int) -> bytes:
        """Open the file again and return its first bytes; an abandoned thread closes what it has opened."""
        file, _ = self._open(path)
        with file:
            return file.read(length_bytes)

    def _open(self, path: str) -> tuple[BinaryIO, int]:
        """Open the file and return its length. Blocks, as disks do."""
        try:
            file = os.fdopen(open_beneath(self._descriptor, path), "rb")
        except OSError:
            raise _unreadable() from None
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode) and found.st_size <= MEDIA_BYTES_MAX:
            return file, found.st_size
        file.close()
        raise too_large("the media is too large") if stat.S_ISREG(found.st_mode) else _unreadable()


def open_beneath(folder: int, path: str) -> int:
    """Open `path` read-only beneath the open `folder`. Raises OSError; never waits for a FIFO's writer."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    how = _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    while True:
        opened: int = _libc.syscall(
            _SYS_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if opened >= 0:
            return opened
        if ctypes.get_errno() != errno.EAGAIN:  # somebody renames files at the same time
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _unreadable() -> RequestError:
    return bad_media("that file cannot be read")
