"""Where a plane is: how the processes of an engine reach its memory, without a name in any file system.

One process creates the address before it starts the others, and outlives them: its descriptors are the way in. The
others open `/proc/PID/fd/N`, which the kernel allows to processes of the same user. A process that must not use the
plane must not run as that user (docs/security.md).

An address gives access to two things: the region (a sealed memfd with reserved pages), and a pipe through which ranks
report that a lease has ended. A pipe has a limit and one direction, and a write of a few bytes is either complete or
has no effect.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import msgspec

from mmplane.arena.label import PLANE_BYTES, check_label, create_labelled, new_plane
from mmplane.arena.segment import check_memory
from mmplane.core.records import Count, Record

REGION = 0
"""The number of the only region."""
PIPE_BYTES = 1024 * 1024
"""The maximum that Linux allows an unprivileged user by default."""


class Address(Record, frozen=True):
    """How to reach one plane. `groups` are the numbers of ranks that get a message together: `(2,)` for TP=2.

    Ranks are numbered across groups: the groups `(2, 2)` have the ranks 0 and 1, and 2 and 3.
    """

    pid: Count
    region_fd: Count
    length_bytes: Count
    hear_fd: Count
    tell_fd: Count
    groups: tuple[int, ...]
    plane: bytes = bytes(PLANE_BYTES)
    """The plane's random id. Whatever is reached under this address is compared with it."""

    @classmethod
    def create(cls, arena_bytes: int, groups: Sequence[int] = (1,), *, plane: bytes = b"") -> Self:
        """Reserve the memory of a new plane; `arena_bytes` are rounded up to pages.

        This process keeps the descriptors open until it ends or calls `discard`. With the id of a `plane` on another
        machine, it is the memory of that plane's mirror on this one. Raises ValueError if there is less memory than
        that, OutOfMemory if the kernel cannot reserve the pages.
        """
        if not groups or min(groups) < 1:
            raise ValueError("each group needs at least one rank")
        length_bytes = -(-arena_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if length_bytes < mmap.PAGESIZE:
            raise ValueError("the arena needs at least one page")
        check_memory(length_bytes)
        plane = plane or new_plane()
        region_fd = create_labelled("mmplane", length_bytes, plane, REGION)
        hear_fd, tell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(PermissionError):  # this user's pipes have a lower limit, which allows fewer leases at a time
            fcntl.fcntl(tell_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return cls(os.getpid(), region_fd, length_bytes, hear_fd, tell_fd, tuple(groups), plane)

    @property
    def ranks(self) -> int:
        """The number of ranks in all groups."""
        return sum(self.groups)

    def group_of(self, rank: int) -> int:
        """The group of a rank. Raises ValueError if there is no such rank."""
        for group, count in enumerate(self.groups):
            if 0 <= rank < count:
                return group
            rank -= count
        raise ValueError("there is no such rank")

    def ranks_of(self, group: int) -> range:
        """The ranks of one group."""
        first = sum(self.groups[:group])
        return range(first, first + self.groups[group])

    def text(self) -> str:
        """The address as a text, for an environment variable or an argument of a process."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address from its text. Raises ValueError."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError("this is not the address of a plane") from error

    def open(self, descriptor: int, flags: int) -> int:
        """Open one of the creator's descriptors in this process. Raises OSError if it is gone or another user's."""
        return os.open(f"/proc/{self.pid}/fd/{descriptor}", flags | os.O_CLOEXEC)

    def open_region(self, flags: int) -> int:
        """Open the region. Raises OSError, and ForeignRegion if the creator has a different file there by now."""
        region_fd = self.open(self.region_fd, flags)
        try:
            check_label(region_fd, self.length_bytes, self.plane, REGION)
        except BaseException:
            os.close(region_fd)
            raise
        return region_fd


def discard(address: Address) -> None:
    """Close the descriptors, in the process that created the address. The memory ends with the last mapping."""
    for descriptor in (address.region_fd, address.hear_fd, address.tell_fd):
        os.close(descriptor)
