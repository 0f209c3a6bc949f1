"""The producer's side of the library: features in, a record out; copied once, however often they are sent.

    key ──indexed──> hold                                                     a hit: nothing is written
     └──else──> draft (a slot to write in place) ──publish──> hold ──lease──> a record for the ranks of one group

A *hold* is this process's own claim, and ends with the object. A *lease* belongs to the ranks: it ends when each rank
of the group has reported its end, or has died. `mmplane.arena.arena.Arena` counts both. Nothing waits: reports of the
ranks are read at the start of each call.

Ranks on another machine read copies, which a *mirror* there writes (`mmplane.mirrors`). Every item that is held goes to
every mirror once (`mmplane.arena.copies`), and is leased to a group when each of its machines has it.

Several threads may make calls; copying happens outside the lock.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import Condition, Lock
from typing import Any
from weakref import finalize

from mmplane.arena.arena import Arena
from mmplane.arena.arrays import dtype_name
from mmplane.arena.copies import Copies
from mmplane.arena.errors import ArenaError
from mmplane.arena.label import own
from mmplane.arena.leases import Process
from mmplane.arena.shares import Shares
from mmplane.core.copies import ARRAYS_MAX
from mmplane.core.records import Item, Modality, Slot
from mmplane.embed.address import REGION, Address
from mmplane.embed.draft import Draft
from mmplane.embed.hold import Hold
from mmplane.embed.layout import pack
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, Release, capacity, hear_nowait
from mmplane.embed.roster import Roster
from mmplane.embed.windows import Windows

_PRODUCER = Process("producer", 0, 0)


class NotJoined(ArenaError):
    """A rank of that group has not joined, or is dead, so nobody would end the lease."""


class NotMirrored(ArenaError):
    """A machine of that group does not have the item's bytes yet."""


class TooManyLeases(ArenaError):
    """There are more open leases than the pipe can report."""


class Plane:
    """The owner of one address. One process makes a Plane of it, once in the life of the address.

    Raises OSError if the address cannot be reached, ForeignRegion if it now leads elsewhere, and Owned if it has, or
    had, another owner.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._windows = Windows(address.plane, self._holds_ended)
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
        self._lock = Condition(Lock())
        """Its waiters are told when a mirror has written an item, or is lost."""
        # Reports of finalizers in any thread: holds that have ended, and drafts that are gone.
        self._released: deque[int] = deque()
        self._abandoned: deque[Slot] = deque()
        self._revoked: deque[int] = deque()
        self._holds: dict[int, Item] = {}
        self._roster = Roster()
        self._joined: set[int] = set()
        self._dead: set[int] = set()
        self._copies = Copies(self._arena)
        self._senders: dict[Process, Callable[[Item], object]] = {}
        """Of each mirror. They are called with the lock held."""
        self._mirror_of: dict[int, Process] = {}
        """Of each rank that is not on this machine."""
        finalize(self, os.close, self._hear_fd).atexit = False  # the end of the process does this too
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

        Dtypes are NumPy's names or `bfloat16`, of at most 8 bytes per element, and there are at most `ARRAYS_MAX`
        arrays. A draft that is not published is freed with the object.
        """
        if len(arrays) > ARRAYS_MAX:
            raise ValueError(f"an item has at most {ARRAYS_MAX} arrays, not {len(arrays)}")
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

    def wait(self, hold: Hold, *, limit_s: float, group: int | None = None) -> bool:
        """Wait until no machine of this group, or of any, lacks the item that is held. False after `limit_s` seconds.

        Returns at once if all ranks are on this machine.
        """
        with self._lock:
            return self._lock.wait_for(lambda: self._is_there(hold.item.slot, group), limit_s)

    def statistics(self) -> dict[str, Any]:
        """The current figures: the arena, open leases, ranks joined and dead, reports that named no lease, mirrors."""
        with self._lock:
            self._hear()
            return {
                "arena": self._arena.statistics(),
                "leases": len(self._shares),
                "joined": len(self._joined),
                "dead": len(self._dead),
                "strays": self._strays,
                "written_bytes": self._written_bytes,
                **self._copies.statistics(),
            }

    def check_integrity(self) -> None:
        """Assert the arena's guarantees."""
        with self._lock:
            self._arena.check_integrity()

    def revoke(self, leased: Leased) -> None:
        """This record was never sent and never will be. May be called from a finalizer."""
        self._revoked.append(leased.lease)

    # Mirrors call these, in their own threads.

    def add_mirror(self, send: Callable[[Item], object], ends_max: int) -> Process:
        """A mirror has joined, whose ranks can report `ends_max` ends at once. Raises TooManyMirrors.

        `send` is called with every item that it lacks. It must neither wait nor call back.
        """
        with self._lock:
            self._hear()
            mirror = self._copies.add()
            self._leases_max = min(self._leases_max, ends_max // self.address.ranks - 1)
            self._senders[mirror] = send
            for item in self._holds.values():
                self._copies.want(item)
            self._send()
            return mirror

    def mirror_wrote(self, mirror: Process, generation: int) -> None:
        """This mirror has the bytes of this generation. Raises NotHeld if they were not sent."""
        with self._lock:
            self._copies.wrote(mirror, generation)
            self._send()
            self._lock.notify_all()

    def mirror_told(
        self, mirror: Process, *, joined: Iterable[int], ended: Iterable[tuple[int, int]], died: Iterable[int]
    ) -> None:
        """What ranks at this mirror did: by rank, and for ends of leases by (lease, rank)."""
        with self._lock:
            for rank in joined:
                if rank >= self.address.ranks or not self._is_new(rank):
                    self._strays += 1
                    continue
                self._mirror_of[rank] = mirror
                self._joined.add(rank)
            for lease, rank in ended:
                self._end(lease, rank, mirror)
            for rank in died:
                if self._mirror_of.get(rank) == mirror:
                    self._bury(rank)

    def mirror_lost(self, mirror: Process) -> None:
        """Nothing is sent to this mirror any more. Its ranks count as dead, whether they are or not.

        What they read stays as it is, because nobody writes there any more.
        """
        with self._lock:
            self._copies.lost(mirror)
            del self._senders[mirror]
            for rank, one in self._mirror_of.items():
                if one == mirror:
                    self._bury(rank)
            self._lock.notify_all()

    def _send(self) -> None:
        for mirror, send in self._senders.items():
            for item in self._copies.due(mirror):
                send(item)

    def _is_there(self, slot: Slot, group: int | None) -> bool:
        away = [rank for rank in self._ranks(group) if rank in self._mirror_of and rank not in self._dead]
        return all(self._copies.has(self._mirror_of[rank], slot) for rank in away)

    def _lease(self, item: Item, group: int | None = None) -> Leased:
        """`Hold.lease`. The item is held, so it exists."""
        with self._lock:
            self._hear()
            if group is None and len(self.address.groups) == 1:
                group = 0
            if not self._is_ready(group):
                raise NotJoined("a rank of the group has not joined, or is dead")
            if not self._is_there(item.slot, group):
                raise NotMirrored("a machine of the group does not have these bytes yet: call wait")
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
        self._holds[hold] = item
        self._copies.want(item)
        self._send()
        return Hold(item, self._windows.open(hold, item.slot), self._lease)

    def _holds_ended(self, holds: Sequence[int]) -> None:
        self._released.extend(holds)

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

    def _ranks(self, group: int | None) -> range:
        return range(self.address.ranks) if group is None else self.address.ranks_of(group)

    def _is_ready(self, group: int | None) -> bool:
        return all(rank in self._joined and rank not in self._dead for rank in self._ranks(group))

    def _is_new(self, rank: int) -> bool:
        return rank not in self._joined and self._roster.is_new(rank)

    def _hear(self) -> None:
        """Apply everything that has happened since the last call. The lock is held."""
        while self._released:
            hold = self._released.popleft()
            self._arena.release(self._holds.pop(hold).slot, _PRODUCER, -hold)
        while self._abandoned:
            self._arena.abandon(self._abandoned.popleft(), _PRODUCER)
        while releases := hear_nowait(self._hear_fd):
            for release in releases:
                self._apply(release)
        joined, died = self._roster.look()
        self._joined.update(joined)
        for rank in died:
            self._bury(rank)
        while self._revoked:
            self._strays += not self._shares.revoke(self._revoked.popleft())

    def _apply(self, release: Release) -> None:
        if release.rank >= self.address.ranks:
            self._strays += 1
        elif release.lease != JOINED:
            self._end(release.lease, release.rank)
        elif self._is_new(release.rank):
            self._roster.join(release.rank, release.pid)
        else:
            self._strays += 1

    def _end(self, lease: int, rank: int, mirror: Process | None = None) -> None:
        """A rank on this machine, or at this mirror, has ended its share."""
        if rank >= self.address.ranks or self._mirror_of.get(rank) != mirror:
            self._strays += 1
            return
        if self._shares.is_undecided(lease):
            self._shares.decide(lease, self._living(self.address.group_of(rank)))
        self._strays += not self._shares.end(lease, _rank(rank))

    def _bury(self, rank: int) -> None:
        """This rank is dead: everything leased to it is returned. Its place stays empty, so it cannot join again."""
        self._dead.add(rank)
        self._shares.reaped(_rank(rank))


def _rank(rank: int) -> Process:
    return Process("rank", rank, 0)
