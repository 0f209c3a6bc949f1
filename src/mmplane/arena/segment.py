"""Regions as memory: the only file that calls memfd and mmap (invariant 7).

A region has no name in any file system, so nothing is left after kill -9, and the limit of a container's /dev/shm does
not apply. It is sealed, so nobody can shrink it under a mapping. Its pages are reserved and mapped at the start, so no
process gets a SIGBUS or pays for a page fault later: writing 31.5 MB to fresh shared pages takes ten times as long as
to warm ones.

The owner creates a region and passes descriptors on: the writable one to the region's one worker, a reopened read-only
one to every other process. That protects against mistakes, not against a hostile process of the same user.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from mmplane.arena.errors import OutOfMemory
from mmplane.arena.memory import memory_available_bytes

_libc = ctypes.CDLL(None, use_errno=True)

_MADV_POPULATE_READ = 22
# /proc/PID/pagemap has eight bytes for each page, the last of which holds these flags (see
# Documentation/admin-guide/mm).
_PAGEMAP_BYTES = 8
_OF_A_FILE = 0x20
_PRESENT_OR_SWAPPED = 0xC0

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def check_memory(wanted_bytes: int) -> None:
    """Raise ValueError, with both figures and the flag, if `wanted_bytes` of arena do not fit into memory."""
    available_bytes = memory_available_bytes()
    if wanted_bytes > available_bytes:
        raise ValueError(
            f"the arena needs {wanted_bytes} bytes, but only {available_bytes} are available "
            f"(control group limit and free memory): lower --arena-bytes"
        )


def create_region(name: str, length_bytes: int) -> int:
    """Create a memfd of `length_bytes` with reserved pages and a sealed size. The caller closes the descriptor.

    `name` only appears in /proc. Raises OutOfMemory if the kernel cannot reserve the pages.
    """
    assert length_bytes > 0, length_bytes
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, length_bytes)
        os.posix_fallocate(fd, 0, length_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise OutOfMemory(f"no {length_bytes} bytes of memory for a region: lower --arena-bytes") from error
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise OutOfMemory(
                f"the limit on file sizes (ulimit -f) is below the {length_bytes} bytes of a region: "
                f"raise it, or lower --arena-bytes"
            ) from error
        raise
    return fd


def reopen_read_only(fd: int) -> int:
    """A second descriptor of the same region that cannot be mapped writable. The caller closes it.

    From now on only root can open the region for writing again; descriptors that are open already do not change.
    """
    os.fchmod(fd, 0o400)
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


class RegionMapping:
    """A region, or its first `length_bytes`, mapped and populated in this process. Closing it leaves `fd` open.

    Raises ValueError if the region is shorter, PermissionError if `writable` is set and `fd` is read-only.
    """

    def __init__(self, fd: int, length_bytes: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        self._map = mmap.mmap(fd, length_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=protection)
        self._whole = memoryview(self._map)
        self.length_bytes = length_bytes
        self.writable = writable

    def view(self, offset_bytes: int, length_bytes: int) -> memoryview:
        """These bytes in place; read-only unless the mapping is writable. Raises ValueError if they are not all inside.

        The view keeps the memory mapped, so it must be gone before `close`.
        """
        # A slice would be truncated without an error, and records come from other processes.
        if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > self.length_bytes:
            raise ValueError(f"{length_bytes} bytes at {offset_bytes} are outside the region of {self.length_bytes}")
        return self._whole[offset_bytes : offset_bytes + length_bytes]

    def close(self) -> None:
        """Unmap. Raises BufferError while a view is alive, because its next use would be a SIGSEGV. May be repeated."""
        self._whole.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


Access = Literal["private", "shared", "writable"]
"""How a process that computes on a region maps it.

    private    writable: a page that it writes to becomes its own copy. For engines that promise this
    shared     read-only: writing is a SIGSEGV
    writable   writable, and visible to all: a device driver cannot register read-only memory
"""


class WindowMapping:
    """A region in a process that makes arrays over it and must know when the last of them is gone (`window`).

    `fd` may be read-only, except for `writable`. With `populate`, pages are mapped at the start (Linux 5.14; on older
    kernels, when they are first read).
    """

    _pagemap_fd: int | None = None

    def __init__(self, fd: int, length_bytes: int, access: Access = "private", *, populate: bool = True) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_SHARED if access == "writable" else mmap.MAP_PRIVATE
        self._map = mmap.mmap(fd, length_bytes, flags=flags, prot=protection)
        self._window: type[ctypes.Array[ctypes.c_char]] = ctypes.c_char * length_bytes
        address = ctypes.addressof(self._window.from_buffer(self._map))
        if access == "shared":
            # A private page that nobody can write to is the region's. (Python has no window on a read-only mapping.)
            _protect(address, length_bytes)
        self.address = address
        self._first_page = address // mmap.PAGESIZE
        if access == "private":
            with suppress(OSError):  # hidden in some containers; then every page counts as written
                self._pagemap_fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self.access: Access = access
        self.length_bytes = length_bytes
        if populate:
            with suppress(OSError):
                # MAP_POPULATE would write, and so copy every page.
                self._map.madvise(_MADV_POPULATE_READ, 0, length_bytes)

    def window(self) -> ctypes.Array[ctypes.c_char]:
        """All of it as one new object with the buffer protocol. Arrays over it keep it alive; weakrefs see its end.

        It keeps this object alive, so a finalizer of this object runs when nobody uses the memory, before it is
        unmapped.
        """
        window = self._window.from_buffer(self._map)
        window.mapping = self  # type: ignore[attr-defined]
        return window

    def restore(self, offset_bytes: int, length_bytes: int) -> bool:
        """Make whole pages the region's again. True if a consumer had written to them. No array may exist over them."""
        if self.access != "private":
            return False
        length_bytes = -(-length_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        written = self._written(offset_bytes, length_bytes)
        if written:
            self._map.madvise(mmap.MADV_DONTNEED, offset_bytes, length_bytes)
        return written

    def _written(self, offset_bytes: int, length_bytes: int) -> bool:
        """Whether any page is this process's own copy. This avoids dropping and faulting in thousands that are not."""
        if self._pagemap_fd is None:
            return True
        first = self._first_page + offset_bytes // mmap.PAGESIZE
        entries = os.pread(self._pagemap_fd, length_bytes // mmap.PAGESIZE * _PAGEMAP_BYTES, first * _PAGEMAP_BYTES)
        flags = set(entries[_PAGEMAP_BYTES - 1 :: _PAGEMAP_BYTES])
        return any(flag & _PRESENT_OR_SWAPPED and not flag & _OF_A_FILE for flag in flags)

    def __del__(self) -> None:
        if self._pagemap_fd is not None:
            os.close(self._pagemap_fd)


def _protect(address: int, length_bytes: int) -> None:
    """Make pages of this process read-only. Raises OSError."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length_bytes), mmap.PROT_READ) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
