"""Where a plane is: how the processes of an engine reach its memory, without any name in a file system.

One process creates the address before it starts the others, and outlives them: its descriptors are the way in. The
others open `/proc/PID/fd/N`, which the kernel allows to processes of the same user. Whoever should not use the plane
must not run as that user (docs/security.md).

Two things are behind it: the region (a sealed memfd, its pages reserved), and a pipe by which ranks tell the plane that
a lease has ended. A pipe is bounded, one-way, and a write of a few bytes into it is whole or not at all.
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
"""The number of the one region."""
PIPE_BYTES = 1024 * 1024
"""The most that Linux gives to an unprivileged user by default."""


class Address(Record, frozen=True):
    """How to reach one plane. `groups` are the numbers of ranks that get a message together: `(2,)` for TP=2.

    Ranks are counted through: groups `(2, 2)` have the ranks 0 and 1, and 2 and 3.
    """

    pid: Count
    region_fd: Count
    length_bytes: Count
    hear_fd: Count
    tell_fd: Count
    groups: tuple[int, ...]
    plane: bytes = bytes(PLANE_BYTES)
    """The plane's random id. What was reached under this address is compared with it."""

    @classmethod
    def create(cls, arena_bytes: int, groups: Sequence[int] = (1,)) -> Self:
        """Reserve the memory of a new plane; `arena_bytes` are rounded up to pages.

        This process keeps the descriptors open until it ends, or calls `discard`. Raises ValueError when there is less
        memory than that, OutOfMemory when the pages cannot be had.
        """
        if not groups or min(groups) < 1:
            raise ValueError("each group needs at least one rank")
        length_bytes = -(-arena_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if length_bytes < mmap.PAGESIZE:
            raise ValueError("the arena needs at least one page")
        check_memory(length_bytes)
        plane = new_plane()
        region_fd = create_labelled("mmplane", length_bytes, plane, REGION)
        hear_fd, tell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(PermissionError):  # this user's pipes have a lower limit: fewer leases at a time
            fcntl.fcntl(tell_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return cls(os.getpid(), region_fd, length_bytes, hear_fd, tell_fd, tuple(groups), plane)

    @property
    def ranks(self) -> int:
        """Of all groups together."""
        return sum(self.groups)

    def group_of(self, rank: int) -> int:
        """The group that a rank belongs to. ValueError when there is no such rank."""
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
        """For an environment variable or an argument of a process."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address of this text. Raises ValueError."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError("not the address of a plane") from error

    def open(self, descriptor: int, flags: int) -> int:
        """One of the creator's descriptors, opened anew in this process. OSError when it is gone or another user's."""
        return os.open(f"/proc/{self.pid}/fd/{descriptor}", flags | os.O_CLOEXEC)

    def open_region(self, flags: int) -> int:
        """The region, opened anew. Raises OSError, and ForeignRegion when the creator has other files there by now."""
        region_fd = self.open(self.region_fd, flags)
        try:
            check_label(region_fd, self.length_bytes, self.plane, REGION)
        except BaseException:
            os.close(region_fd)
            raise
        return region_fd


def discard(address: Address) -> None:
    """Give the descriptors back, in the process that created the address; the memory goes with the last mapping."""
    for descriptor in (address.region_fd, address.hear_fd, address.tell_fd):
        os.close(descriptor)
