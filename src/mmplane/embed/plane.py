"""The producer's side of the library: features in, a record out; copied once, however often they are sent.

    key ──indexed──> hold                                                     a hit: nothing is written
     └──else──> draft (a slot to write in place) ──publish──> hold ──lease──> a record for the ranks of one group

A *hold* is this process's own claim, and ends with the object. A *lease* belongs to the ranks: it ends when each rank
of the group has reported its end, or has died. `mmplane.arena.arena.Arena` counts both. Nothing waits: reports of the
ranks are read at the start of each call.

Several threads may make calls; copying happens outside the lock.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any
from weakref import finalize

from mmplane.arena.arena import Arena
from mmplane.arena.arrays import dtype_name
from mmplane.arena.errors import ArenaError
from mmplane.arena.label import own
from mmplane.arena.leases import Process
from mmplane.arena.shares import Shares
from mmplane.core.records import Item, Modality, Slot
from mmplane.embed.address import REGION, Address
from mmplane.embed.draft import Draft
from mmplane.embed.hold import Hold
from mmplane.embed.layout import pack
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, Release, capacity, hear_nowait
from mmplane.embed.windows import Windows

log = logging.getLogger("mmplane")

_PRODUCER = Process("producer", 0, 0)


class NotJoined(ArenaError):
    """A rank of that group has not joined, or is dead, so nobody would end the lease."""


class TooManyLeases(ArenaError):
    """There are more open leases than the pipe can report."""


class Plane:
    """The owner of one address. One process makes a Plane of it, once in the life of the address.

    Raises OSError if the address cannot be reached, ForeignRegion if it now leads elsewhere, and Owned if it has, or
    had, another owner.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._windows = Windows(address.plane, self._hold_ended)
        region_fd = address.open_region(os.O_RDWR)
        try:
            self._windows.map(REGION, region_fd, address.length_bytes, "writable")
            own(region_fd, address.length_bytes)
        finally:
            os.close(region_fd)
        self._hear_fd = address.open(address.hear_fd, os.O_RDONLY | os.O_NONBLOCK)
        self._leases_max = capacity(self._hear_fd) // address.ranks - 1
        # A rank returns pages to the kernel when it drops what it wrote, so no two slots share a page.
        self._arena = Arena([address.length_bytes], align_bytes=mmap.PAGESIZE)
        self._shares = Shares(self._arena, _PRODUCER)
        self._lock = Lock()
        # Reports of finalizers in any thread: holds that have ended, and drafts that are gone.
        self._released: deque[int] = deque()
        self._abandoned: deque[Slot] = deque()
        self._revoked: deque[int] = deque()
        self._holds: dict[int, Slot] = {}
        self._joining: dict[int, Release] = {}
        """Ranks for which no pidfd could be opened yet."""
        self._pidfds: dict[int, int] = {}
        """Of each rank that has joined; -1 once it is dead."""
        finalize(self, _close, self._hear_fd, self._pidfds).atexit = False  # the end of the process does this too
        self._dead: set[int] = set()
        self._poll = select.poll()
        self._next = 1
        self._strays = 0
        self._written_bytes = 0

    def put(self, key: bytes, arrays: Mapping[str, Any], *, modality: Modality = "image") -> Hold:
        """Put features by name (NumPy arrays or CPU tensors), which are written once for each key while resident.

        `key` must identify their content completely, including shapes and dtypes. Raises ArenaFull.
        """
        held = self.get(key)
        if held is not None:
            return held
        draft = self.draft([(name, dtype_name(one), tuple(one.shape)) for name, one in arrays.items()])
        draft.fill_all(arrays)
        return draft.publish(key, modality=modality)

    def get(self, key: bytes) -> Hold | None:
        """The item resident under this key; counted as a hit or a miss."""
        with self._lock:
            self._hear()
            item = self._arena.lookup(key)
            return None if item is None else self._hold(item)

    def draft(self, arrays: Sequence[tuple[str, str, tuple[int, ...]]]) -> Draft:
        """A slot to write in place: (name, dtype, shape) of each array. Raises ArenaFull.

        Dtypes are NumPy's names or `bfloat16`, of at most 8 bytes per element. A draft that is not published is freed
        with the object.
        """
        tensors, length_bytes = pack(arrays)
        with self._lock:
            self._hear()
            slot = self._arena.reserve(REGION, length_bytes, _PRODUCER)
        abandon = partial(self._abandoned.append, slot)
        return Draft(slot, tensors, self._windows.window(REGION), publish=self._publish, abandon=abandon)

    def is_ready(self, group: int | None = None) -> bool:
        """Whether every rank of this group, or of all groups, has joined and is alive."""
        with self._lock:
            self._hear()
            return self._is_ready(group)

    def statistics(self) -> dict[str, Any]:
        """The current figures: the arena's, open leases, ranks joined and dead, messages that named no lease."""
        with self._lock:
            self._hear()
            return {
                "arena": self._arena.statistics(),
                "leases": len(self._shares),
                "joined": len(self._pidfds),
                "dead": len(self._dead),
                "strays": self._strays,
                "written_bytes": self._written_bytes,
            }

    def check_integrity(self) -> None:
        """Assert the arena's guarantees."""
        with self._lock:
            self._arena.check_integrity()

    def revoke(self, leased: Leased) -> None:
        """This record was never sent and never will be. May be called from a finalizer."""
        self._revoked.append(leased.lease)

    def _lease(self, item: Item, group: int | None = None) -> Leased:
        """`Hold.lease`. The item is held, so it exists."""
        with self._lock:
            self._hear()
            if group is None and len(self.address.groups) == 1:
                group = 0
            if not self._is_ready(group):
                raise NotJoined("a rank of the group has not joined, or is dead")
            if len(self._shares) >= self._leases_max:
                raise TooManyLeases("too many leases are open")
            number = self._shares.lease(item.slot)
            if group is not None:
                self._shares.decide(number, self._living(group))
            return Leased(number, item, self.address.plane)

    def _living(self, group: int) -> list[Process]:
        return [_rank(rank) for rank in self.address.ranks_of(group) if rank not in self._dead]

    def _hold(self, item: Item) -> Hold:
        hold, self._next = self._next, self._next + 1
        self._arena.lease(item.slot, _PRODUCER, -hold)
        self._holds[hold] = item.slot
        return Hold(item, self._windows.open(hold, item.slot), self._lease)

    def _hold_ended(self, hold: int) -> None:
        self._released.append(hold)

    def _publish(self, item: Item) -> Hold:
        """`Draft.publish`. The slot has been written."""
        with self._lock:
            self._hear()
            self._arena.commit(item.slot, _PRODUCER)
            self._written_bytes += item.slot.length_bytes
            there = self._arena.publish(item.content_key, item)
            hold = self._hold(there.item)
            if not there.accepted:  # two threads had the same features at the same time
                self._arena.discard(item.slot)
            return hold

    def _is_ready(self, group: int | None) -> bool:
        ranks = range(self.address.ranks) if group is None else self.address.ranks_of(group)
        return all(rank in self._pidfds and rank not in self._dead for rank in ranks)

    def _hear(self) -> None:
        """Apply everything that has happened since the last call. The lock is held."""
        while self._released:
            hold = self._released.popleft()
            self._arena.release(self._holds.pop(hold), _PRODUCER, -hold)
        while self._abandoned:
            self._arena.abandon(self._abandoned.popleft(), _PRODUCER)
        while releases := hear_nowait(self._hear_fd):
            for release in releases:
                self._apply(release)
        for release in list(self._joining.values()):
            self._join(release)
        for pidfd, _ in self._poll.poll(0):
            self._bury(next(rank for rank, known in self._pidfds.items() if known == pidfd))
        while self._revoked:
            self._strays += not self._shares.revoke(self._revoked.popleft())

    def _apply(self, release: Release) -> None:
        if release.rank >= self.address.ranks:
            self._strays += 1
        elif release.lease == JOINED:
            self._join(release)
        else:
            if self._shares.is_undecided(release.lease):
                self._shares.decide(release.lease, self._living(self.address.group_of(release.rank)))
            self._strays += not self._shares.end(release.lease, _rank(release.rank))

    def _join(self, release: Release) -> None:
        if release.rank in self._pidfds:
            self._strays += 1
            return
        try:
            pidfd = os.pidfd_open(release.pid)
        except ProcessLookupError:  # it has died since then
            self._joining.pop(release.rank, None)
            self._pidfds[release.rank] = -1
            self._bury(release.rank)
            return
        except OSError as error:  # for example, no descriptor is free; at the next call one may be
            if self._joining.setdefault(release.rank, release) is release:
                log.warning("rank %d has not joined yet: %s", release.rank, error.strerror)
            return
        self._joining.pop(release.rank, None)
        self._pidfds[release.rank] = pidfd
        self._poll.register(pidfd, select.POLLIN)

    def _bury(self, rank: int) -> None:
        """This rank is dead: everything leased to it is returned. Its place stays empty, so it cannot join again."""
        if self._pidfds[rank] >= 0:
            self._poll.unregister(self._pidfds[rank])
            os.close(self._pidfds[rank])
            self._pidfds[rank] = -1
        self._dead.add(rank)
        self._shares.reaped(_rank(rank))


def _close(hear_fd: int, pidfds: dict[int, int]) -> None:
    for descriptor in (hear_fd, *pidfds.values()):
        if descriptor >= 0:
            os.close(descriptor)


def _rank(rank: int) -> Process:
    return Process("rank", rank, 0)
