"""The producer's side of the library: features in, a record out, copied once however often they are sent.

    key ──indexed──> hold                                                     a hit: nothing is written
     └──else──> draft (a slot to write in place) ──publish──> hold ──lease──> a record for the ranks of one group

A *hold* is this process's own lease, and ends with the object. A *lease* is the ranks': it ends when each rank of the
group has told so, or has died. Both are counted by `mmplane.arena.arena.Arena`. Nothing waits: what the ranks told is
heard at the start of each call.

Calls may come from several threads; the copying is done outside the lock.
"""

from __future__ import annotations

import mmap
import os
import select
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from threading import Lock
from typing import Any

from mmplane.arena.arena import Arena
from mmplane.arena.arrays import dtype_name
from mmplane.arena.errors import ArenaError
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.records import Item, Modality, Slot
from mmplane.embed.address import Address
from mmplane.embed.draft import Draft
from mmplane.embed.hold import Hold
from mmplane.embed.layout import pack
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, Release, capacity, hear_nowait

_PRODUCER = Process("producer", 0, 0)
_REGION = 0


class NotJoined(ArenaError):
    """A rank of that group has not joined, or is dead: nobody would end the lease."""


class TooManyLeases(ArenaError):
    """More leases than their ends have room in the pipe."""


@dataclass
class _Lease:
    slot: Slot
    group: int | None
    waiting: set[int]


class Plane:
    """Owner of one address: only one process at a time, for the life of the address, makes a Plane of it.

    Raises OSError when the address cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        region_fd = address.open(address.region_fd, os.O_RDWR)
        try:
            self._memory = RegionMapping(region_fd, address.length_bytes, writable=True)
        finally:
            os.close(region_fd)
        self._hear_fd = address.open(address.hear_fd, os.O_RDONLY | os.O_NONBLOCK)
        self._leases_max = capacity(self._hear_fd) // address.ranks - 1
        # A rank gives pages back to the kernel when it drops what it wrote, so no two slots share one.
        self._arena = Arena([address.length_bytes], align_bytes=mmap.PAGESIZE)
        self._lock = Lock()
        self._dropped: deque[tuple[Slot, int]] = (
            deque()
        )  # holds (by tag) and drafts (0) that are gone, by finalizers of any thread
        self._revoked: deque[int] = deque()
        self._leases: dict[int, _Lease] = {}
        self._pidfds: dict[int, int] = {}
        self._dead: set[int] = set()
        self._poll = select.poll()
        self._next = 1
        self._strays = 0
        self._written_bytes = 0

    def put(self, key: bytes, arrays: Mapping[str, Any], *, modality: Modality = "image") -> Hold:
        """Features by name (NumPy arrays or CPU tensors), written once for each key while they are resident.

        `key` names their content completely, shapes and dtypes included. Raises ArenaFull.
        """
        held = self.get(key)
        if held is not None:
            return held
        draft = self.draft([(name, dtype_name(one), tuple(one.shape)) for name, one in arrays.items()])
        for name, one in arrays.items():
            if prod(one.shape):
                draft.fill(name, one)
        return draft.publish(key, modality=modality)

    def get(self, key: bytes) -> Hold | None:
        """What is resident under this key; counted as a hit or a miss."""
        with self._lock:
            self._hear()
            item = self._arena.lookup(key)
            return None if item is None else self._hold(item)

    def draft(self, arrays: Sequence[tuple[str, str, tuple[int, ...]]]) -> Draft:
        """A slot to write in place: (name, dtype, shape) of each array. Raises ArenaFull.

        Dtypes are NumPy's names or `bfloat16`, of at most 8 bytes an element. What is not published is freed with the
        draft.
        """
        tensors, length_bytes = pack(arrays)
        with self._lock:
            self._hear()
            slot = self._arena.reserve(_REGION, length_bytes, _PRODUCER)
        abandon = partial(self._dropped.append, (slot, 0))
        return Draft(slot, tensors, self._content(slot), publish=self._publish, abandon=abandon)

    def is_ready(self, group: int | None = None) -> bool:
        """Whether every rank of this group, or of all, has joined and lives."""
        with self._lock:
            self._hear()
            return self._is_ready(group)

    def statistics(self) -> dict[str, Any]:
        """Of this moment: the arena's figures, leases open, ranks joined and dead, messages that named no lease."""
        with self._lock:
            self._hear()
            return {
                "arena": self._arena.statistics(),
                "leases": len(self._leases),
                "joined": len(self._pidfds),
                "dead": len(self._dead),
                "strays": self._strays,
                "written_bytes": self._written_bytes,
            }

    def check_integrity(self) -> None:
        """Assert what the arena promises."""
        with self._lock:
            self._arena.check_integrity()

    def revoke(self, leased: Leased) -> None:
        """This record was never sent and never will be. May be called from a finalizer."""
        self._revoked.append(leased.lease)

    def _lease(self, item: Item, group: int | None = None) -> Leased:
        """`Hold.lease`: the item is held, so that it is there."""
        with self._lock:
            self._hear()
            if group is None and len(self.address.groups) == 1:
                group = 0
            if not self._is_ready(group):
                raise NotJoined("a rank has not joined, or is dead")
            if len(self._leases) >= self._leases_max:
                raise TooManyLeases("too many leases are open")
            lease, self._next = _Lease(item.slot, None, set()), self._next + 1
            number = self._next - 1
            self._arena.lease(item.slot, _PRODUCER, number)
            self._leases[number] = lease
            if group is not None:
                self._assign(number, lease, group)
            return Leased(number, item)

    def _assign(self, number: int, lease: _Lease, group: int) -> None:
        """From now on it is the lease of every rank of the group, and no more the producer's."""
        lease.group = group
        for rank in self.address.ranks_of(group):
            if rank not in self._dead:
                lease.waiting.add(rank)
                self._arena.lease(lease.slot, _rank(rank), number)
        self._arena.release(lease.slot, _PRODUCER, number)

    def _hold(self, item: Item) -> Hold:
        tag = -self._next
        self._next += 1
        self._arena.lease(item.slot, _PRODUCER, tag)
        end = partial(self._dropped.append, (item.slot, tag))
        return Hold(item, content=self._content, lease=self._lease, end=end)

    def _publish(self, item: Item) -> Hold:
        """`Draft.publish`: its slot is written."""
        with self._lock:
            self._hear()
            self._arena.commit(item.slot, _PRODUCER)
            self._written_bytes += item.slot.length_bytes
            there = self._arena.publish(item.content_key, item)
            hold = self._hold(there.item)
            if not there.accepted:  # two threads had the same features at the same time
                self._arena.discard(item.slot)
            return hold

    def _content(self, slot: Slot) -> memoryview:
        """A slot's bytes, in place."""
        return self._memory.view(slot.offset_bytes, slot.length_bytes)

    def _is_ready(self, group: int | None) -> bool:
        ranks = range(self.address.ranks) if group is None else self.address.ranks_of(group)
        return all(rank in self._pidfds and rank not in self._dead for rank in ranks)

    def _hear(self) -> None:
        """Apply what has happened since the last call. The lock is held."""
        while self._dropped:
            slot, tag = self._dropped.popleft()
            if tag:
                self._arena.release(slot, _PRODUCER, tag)
            else:
                self._arena.abandon(slot, _PRODUCER)
        while releases := hear_nowait(self._hear_fd):
            for release in releases:
                self._apply(release)
        for pidfd, _ in self._poll.poll(0):
            self._bury(next(rank for rank, known in self._pidfds.items() if known == pidfd))
        while self._revoked:
            self._revoke(self._revoked.popleft())

    def _apply(self, release: Release) -> None:
        lease = self._leases.get(release.lease)
        if release.rank >= self.address.ranks:
            self._strays += 1
        elif release.lease == JOINED:
            self._join(release)
        elif lease is None or lease.group not in (None, self.address.group_of(release.rank)):
            self._strays += 1
        else:
            if lease.group is None:
                self._assign(release.lease, lease, self.address.group_of(release.rank))
            self._end(release.lease, lease, release.rank)

    def _join(self, release: Release) -> None:
        if release.rank in self._pidfds:
            self._strays += 1
            return
        try:
            pidfd = os.pidfd_open(release.pid)
        except OSError:  # it has died since
            self._pidfds[release.rank] = -1
            self._bury(release.rank)
            return
        self._pidfds[release.rank] = pidfd
        self._poll.register(pidfd, select.POLLIN)

    def _end(self, number: int, lease: _Lease, rank: int) -> None:
        if rank not in lease.waiting:
            self._strays += 1
            return
        lease.waiting.remove(rank)
        self._arena.release(lease.slot, _rank(rank), number)
        if not lease.waiting:
            del self._leases[number]

    def _bury(self, rank: int) -> None:
        """This rank is dead: all it was lent is given back. It cannot join again: its place is for its life."""
        if self._pidfds[rank] >= 0:
            self._poll.unregister(self._pidfds[rank])
            os.close(self._pidfds[rank])
        self._dead.add(rank)
        self._arena.reaped(_rank(rank))
        for number, lease in list(self._leases.items()):
            lease.waiting.discard(rank)
            if lease.group is not None and not lease.waiting:
                del self._leases[number]

    def _revoke(self, number: int) -> None:
        lease = self._leases.pop(number, None)
        if lease is None:
            self._strays += 1
            return
        for rank in lease.waiting:
            self._arena.release(lease.slot, _rank(rank), number)
        if lease.group is None:
            self._arena.release(lease.slot, _PRODUCER, number)


def _rank(rank: int) -> Process:
    return Process("rank", rank, 0)
