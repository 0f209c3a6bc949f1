"""The owner's view of the arena: who may use which bytes, until when, and which items are there to be asked for again.

Pure bookkeeping in one process, the front end; every call is synchronous and either happens whole or raises and changes
nothing. Workers and ranks never see this: they are handed slots (inert records) and give them back by message, so every
argument that comes from a message is refused by a typed error when it is out of date, and is never applied to whoever
has the bytes now. The life of a slot is the table in `leases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from mmplane.arena.allocator import ALIGN_BYTES, Allocator
from mmplane.arena.errors import ArenaFull, DeadProcess, NotHeld, StaleSlot
from mmplane.arena.index import Index
from mmplane.arena.leases import Event, Occupant, Process, State
from mmplane.arena.statistics import ArenaStatistics, region_statistics, sum_regions
from mmplane.core.records import Item, Slot


class Publication(msgspec.Struct, frozen=True):
    """What `publish` did: the item now indexed under the key, and whether it is the one just offered."""

    item: Item
    accepted: bool


class Arena:
    """One allocator per region, the leases on every slot, and the index of finished items.

    `region_bytes` are multiples of `align_bytes` (ValueError). `first_generation` lets a new owner of old memory start
    above every generation that its predecessor may have handed out: pass `epoch << 40`.
    """

    def __init__(
        self, region_bytes: Sequence[int], *, align_bytes: int = ALIGN_BYTES, first_generation: int = 1
    ) -> None:
        self._allocators = [Allocator(length_bytes, align_bytes) for length_bytes in region_bytes]
        self._occupants: dict[int, Occupant] = {}  # by generation
        self._index = Index(len(self._allocators))
        self._next_generation = first_generation
        self._reaped: dict[tuple[str, int], int] = {}  # (role, index) -> last incarnation known to be dead
        self._evictions = 0
        self._notice: Callable[[], object] = lambda: None

    def watch(self, notice: Callable[[], object]) -> None:
        """Have `notice` called whenever a claim has ended, so that there may be more room. It must not call back."""
        self._notice = notice

    def reserve(self, region: int, length_bytes: int, writer: Process) -> Slot:
        """A slot of `length_bytes` for `writer` to fill.

        Evicts unleased items of that region if it must: least recently used first, until a run is long enough, and of
        those only the ones that lie in the run. Raises ArenaFull (then nothing is evicted) and DeadProcess.
        """
        self._refuse_dead(writer)
        allocator = self._allocators[region]
        offset_bytes = allocator.reserve_nowait(length_bytes)
        if offset_bytes is None:
            offset_bytes = self._reserve_by_evicting(region, length_bytes)
        slot = Slot(region, offset_bytes, length_bytes, self._next_generation)
        self._next_generation += 1
        self._occupants[slot.generation] = Occupant(slot, allocator.rounded(length_bytes), writer)
        return slot

    def commit(self, slot: Slot, writer: Process) -> bool:
        """The writer has finished and will not touch these bytes again: WRITING -> READY.

        False when the slot was discarded meanwhile: then this only ends the writer's claim, and the bytes are free.
        Raises StaleSlot and NotHeld.
        """
        occupant = self._end_writing(slot, writer)
        if occupant.state is State.QUARANTINED:
            self._drain(occupant)
            self._notice()
            return False
        occupant.apply(Event.COMMIT)
        return True

    def abandon(self, slot: Slot, writer: Process) -> None:
        """The writer has stopped and the bytes are no good (media that cannot be decoded): they are free.

        Raises StaleSlot and NotHeld.
        """
        self._drain(self._end_writing(slot, writer))
        self._notice()

    def publish(self, key: bytes, item: Item) -> Publication:
        """Index a finished item. A key that is present keeps its item: then the caller discards or leases its own slot.

        Raises StaleSlot when the item's slot is gone or discarded.
        """
        occupant = self._live(item.slot)
        assert occupant.state is State.READY, "publish follows commit"
        present = self._index.get(key)
        if present is not None:
            return Publication(present, accepted=present.slot == item.slot)
        assert occupant.key is None, "one slot has one key"
        self._index.add(key, item)
        occupant.key = key
        self._notice()  # nobody may hold it
        return Publication(item, accepted=True)

    def lookup(self, key: bytes) -> Item | None:
        """The item under this key, now the most recently used of its region; counted as a hit or a miss."""
        return self._index.lookup(key)

    def holds(self, key: bytes) -> bool:
        """Whether there is an item under this key: not counted, and no use of it."""
        return self._index.get(key) is not None

    @property
    def regions(self) -> int:
        """How many regions there are."""
        return len(self._allocators)

    def lease(self, slot: Slot, process: Process, tag: int) -> None:
        """Keep a finished slot in place for (process, tag), once more. Raises StaleSlot and DeadProcess."""
        self._refuse_dead(process)
        occupant = self._live(slot)
        assert occupant.state is State.READY, "only finished bytes are leased"
        occupant.leases.add(process, tag)

    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        """End one lease; True when that freed the bytes: nobody else holds them and no index entry wants them.

        Raises StaleSlot and NotHeld.
        """
        occupant = self._occupant(slot)
        occupant.leases.drop(process, tag)
        freed = self._drain(occupant)
        self._notice()
        return freed

    def discard(self, slot: Slot) -> bool:
        """The owner no longer wants it: unindexed now; True when it was freed at once, False when quarantined.

        A quarantined slot is freed when each holder has given it back (commit, abandon, release) or been reaped.
        Discarding it again changes nothing. Raises StaleSlot.
        """
        occupant = self._occupant(slot)
        self._unindex(occupant)
        occupant.apply(Event.DISCARD)
        freed = self._drain(occupant)
        self._notice()
        return freed

    def reaped(self, process: Process) -> tuple[Slot, ...]:
        """This process is dead, known by its handle: its claims end. The slots that this freed.

        A half-written slot of a dead writer is freed too: nobody will finish it, and nobody can touch it any more.
        """
        life = (process.role, process.index)
        self._reaped[life] = max(process.incarnation, self._reaped.get(life, -1))
        freed = []
        for occupant in list(self._occupants.values()):
            claims = occupant.leases.drop_process(process)
            if occupant.writer == process:
                occupant.writer = None
                claims += 1
            if claims and self._drain(occupant):
                freed.append(occupant.slot)
        self._notice()
        return tuple(freed)

    def region_bytes(self, region: int) -> int:
        """How long this region is."""
        return self._allocators[region].length_bytes

    def free_bytes(self, region: int) -> int:
        """Bytes of this region that nobody uses; cheap enough for every request."""
        return self._allocators[region].free_bytes

    def room(self, region: int) -> int:
        """The longest slot, in bytes, that `reserve` could give now in this region, evicting what it may.

        It looks at every slot: for reports and refusals, not for each request.
        """
        here = (occupant for occupant in self._occupants.values() if occupant.slot.region == region)
        fixed = sorted((o.slot.offset_bytes, o.reserved_bytes) for o in here if not o.is_evictable)
        end_bytes = longest_bytes = 0
        for offset_bytes, length_bytes in [*fixed, (self._allocators[region].length_bytes, 0)]:
            longest_bytes = max(longest_bytes, offset_bytes - end_bytes)
            end_bytes = offset_bytes + length_bytes
        return longest_bytes

    def statistics(self) -> ArenaStatistics:
        """Bytes by state, per region and in total, and the counts since the start."""
        regions = tuple(
            region_statistics(allocator.statistics(), [o for o in self._occupants.values() if o.slot.region == region])
            for region, allocator in enumerate(self._allocators)
        )
        return ArenaStatistics(
            regions=regions,
            total=sum_regions(regions),
            slots=len(self._occupants),
            leases=sum(occupant.leases.total for occupant in self._occupants.values()),
            items=len(self._index),
            hits=self._index.hits,
            misses=self._index.misses,
            evictions=self._evictions,
        )

    def check_integrity(self) -> None:
        """Assert that allocator, occupants and index tell one story, and that the states add up to the region."""
        self._index.check_integrity()
        for region, allocator in enumerate(self._allocators):
            allocator.check_integrity()
            here = [occupant for occupant in self._occupants.values() if occupant.slot.region == region]
            assert allocator.used() == {o.slot.offset_bytes: o.reserved_bytes for o in here}
            for key, item in self._index.oldest_first(region):
                assert self._occupant(item.slot).key == key
        for generation, occupant in self._occupants.items():
            occupant.check_integrity()
            assert generation == occupant.slot.generation < self._next_generation
            assert occupant.reserved_bytes >= occupant.slot.length_bytes
        assert sum(occupant.key is not None for occupant in self._occupants.values()) == len(self._index)
        for figures in self.statistics().regions:
            assert figures.length_bytes == figures.free_bytes + figures.used_bytes

    def _occupant(self, slot: Slot) -> Occupant:
        occupant = self._occupants.get(slot.generation)
        if occupant is None or occupant.slot != slot:
            raise StaleSlot(f"{slot} is not in use")
        return occupant

    def _live(self, slot: Slot) -> Occupant:
        """The occupant that may gain holders: one that its owner still wants."""
        occupant = self._occupant(slot)
        if occupant.state is State.QUARANTINED:
            raise StaleSlot(f"{slot} was discarded")
        return occupant

    def _refuse_dead(self, process: Process) -> None:
        if process.incarnation <= self._reaped.get((process.role, process.index), -1):
            raise DeadProcess(f"{process} was reaped")

    def _end_writing(self, slot: Slot, writer: Process) -> Occupant:
        occupant = self._occupant(slot)
        if occupant.writer != writer:
            raise NotHeld(f"{writer} is not writing {slot}")
        occupant.writer = None
        return occupant

    def _evictable(self, region: int) -> Iterator[Occupant]:
        """Least recently used first, and lazily: the first few usually do."""
        for _, item in self._index.oldest_first(region):
            occupant = self._occupants[item.slot.generation]
            if occupant.is_evictable:
                yield occupant

    def _reserve_by_evicting(self, region: int, length_bytes: int) -> int:
        """Free the oldest until a run is long enough, then take back those that it does not need.

        So a failure takes back all of them and costs nobody a hit, and one large slot does not empty a region of small
        ones that lie elsewhere.
        """
        allocator = self._allocators[region]
        if length_bytes > allocator.length_bytes:
            raise ArenaFull(region=region, length_bytes=length_bytes, ever=True)
        offset_bytes, freed = None, []
        for occupant in self._evictable(region):
            allocator.free(occupant.slot.offset_bytes)
            freed.append(occupant)
            offset_bytes = allocator.reserve_nowait(length_bytes)
            if offset_bytes is not None:
                break
        for occupant in freed:
            if offset_bytes is not None and _overlaps(occupant, offset_bytes, offset_bytes + length_bytes):
                self._evict(occupant)
            else:
                allocator.take_back(occupant.slot.offset_bytes, occupant.reserved_bytes)
        if offset_bytes is None:
            raise ArenaFull(region=region, length_bytes=length_bytes, ever=False)
        return offset_bytes

    def _evict(self, occupant: Occupant) -> None:
        """Forget an item whose bytes have been reserved for another."""
        self._unindex(occupant)
        self._evictions += 1
        self._forget(occupant, Event.EVICT)

    def _unindex(self, occupant: Occupant) -> None:
        if occupant.key is not None:
            self._index.remove(occupant.key)
            occupant.key = None

    def _drain(self, occupant: Occupant) -> bool:
        """Free it unless somebody holds it or may ask for it; whether it was freed."""
        if occupant.is_held or occupant.key is not None:
            return False
        self._forget(occupant, Event.DRAIN)
        self._allocators[occupant.slot.region].free(occupant.slot.offset_bytes)
        return True

    def _forget(self, occupant: Occupant, event: Event) -> None:
        occupant.apply(event)
        del self._occupants[occupant.slot.generation]


def _overlaps(occupant: Occupant, start_bytes: int, end_bytes: int) -> bool:
    first_bytes = occupant.slot.offset_bytes
    return first_bytes < end_bytes and start_bytes < first_bytes + occupant.reserved_bytes
