"""The regions of one plane as descriptors: those for attached processes, and the regions of producers.

A producer that already has features writes them into its own region. The region is created when a producer asks for
one. When that producer has exited, the next producer gets it, and ranks keep it mapped.
"""

from __future__ import annotations

import mmap

from mmplane.arena.arena import Arena
from mmplane.arena.errors import OutOfMemory
from mmplane.arena.label import create_labelled, plane_of
from mmplane.arena.segment import reopen_read_only
from mmplane.core.errors import overloaded, too_large
from mmplane.sidecar.records import Region

PRODUCERS_MAX = 16
"""Maximum number of producers that have their own region at a time."""


class Regions:
    """`writable` are the supervisor's regions, in order; producers' regions take `producers_bytes` together."""

    def __init__(self, arena: Arena, writable: list[int], *, producers_bytes: int) -> None:
        self._arena = arena
        self._writable = writable
        self._read_only = [reopen_read_only(fd) for fd in writable]
        self._left_bytes = producers_bytes
        self._free: list[int] = []
        self._own = 0
        self.plane = plane_of(writable[0], arena.region_bytes(0))

    @property
    def all(self) -> tuple[Region, ...]:
        """Every region, in order."""
        return tuple(map(self.of, range(len(self._writable))))

    def of(self, region: int) -> Region:
        """One of the regions."""
        return Region(region, self._arena.region_bytes(region))

    def descriptors(self, *, writable: bool = False) -> list[int]:
        """Read-only descriptors of all regions, in order; this object keeps owning them."""
        return list(self._writable if writable else self._read_only)

    def descriptor(self, region: int, *, writable: bool) -> int:
        """The descriptor of one region."""
        return (self._writable if writable else self._read_only)[region]

    def lend(self, length_bytes: int) -> int:
        """Return a free region of at least `length_bytes` for one producer, or create one.

        Raises RequestError: 413 if there can never be such a region, 503 if there is none now.
        """
        length_bytes = -(-length_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        for region in self._free:
            if self._arena.region_bytes(region) >= length_bytes:
                self._free.remove(region)
                return region
        if length_bytes > self._left_bytes or self._own >= PRODUCERS_MAX:
            if self._own:
                raise overloaded("other producers have the regions that this sidecar has for producers")
            raise too_large("this sidecar does not have that much memory for producers: raise --producers-bytes")
        try:
            fd = create_labelled(f"mmplane-{len(self._writable)}", length_bytes, self.plane, len(self._writable))
        except OutOfMemory as error:
            raise overloaded(str(error)) from None
        self._left_bytes -= length_bytes
        self._own += 1
        self._writable.append(fd)
        self._read_only.append(reopen_read_only(fd))
        return self._arena.add_region(length_bytes)

    def give_back(self, region: int) -> None:
        """Its producer has exited, and its claims have ended."""
        self._free.append(region)
