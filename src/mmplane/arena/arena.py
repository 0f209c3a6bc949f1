"""The owner's interface to the arena: who may use which bytes, until when, and which items later requests can hit.

This is pure bookkeeping in one process, the front end. Every call is synchronous, and either succeeds or raises and
changes nothing. Workers and ranks never see it: they get slots (inert records) and return them by message. So an
argument from a message that is out of date is rejected with a typed error, and never applied to the new user of the
bytes. The life of a slot is the table in `leases`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from mmplane.arena.allocator import ALIGN_BYTES
from mmplane.arena.errors import ArenaFull, DeadProcess, NotHeld, StaleSlot
from mmplane.arena.leases import Event, Occupant, Process, SlotState
from mmplane.arena.region import Region
from mmplane.arena.statistics import ArenaStatistics, sum_regions
from mmplane.core.records import Item, Slot


class Publication(msgspec.Struct, frozen=True):
    """The result of `publish`: the item now indexed under the key, and whether it is the one just offered."""

    item: Item
    accepted: bool


class Arena:
    """The regions, the leases on every slot, and the index of finished items by key.

    Except for `check_integrity`, no call looks at more slots than it changes, apart from a limited number of evictable
    ones.

    `region_bytes` must be multiples of `align_bytes` (ValueError). `first_generation` lets a new owner of old memory
    start above every generation that its predecessor may have used: pass `epoch << 40`.
    """

    def __init__(
        self, region_bytes: Sequence[int], *, align_bytes: int = ALIGN_BYTES, first_generation: int = 1
    ) -> None:
        self._align_bytes = align_bytes
        self._regions = [Region(length_bytes, align_bytes) for length_bytes in region_bytes]
        self._occupants: dict[int, Occupant] = {}  # by generation
        self._claims: defaultdict[Process, dict[int, Occupant]] = defaultdict(dict)  # by generation
        self._items: dict[bytes, Item] = {}  # by content key
        self._leases = self._hits = self._misses = 0
        self._next_generation = first_generation
        self._reaped: dict[tuple[str, int], int] = {}  # (role, index) -> last incarnation known to be dead
        self._evictions = 0
        self._held_bytes_max = 0
        self._notice: Callable[[], object] = lambda: None

    def watch(self, notice: Callable[[], object]) -> None:
        """Have `notice` called whenever a lease has ended, so that there may be more room. It must not call back."""
        self._notice = notice

    def reserve(self, region: int, length_bytes: int, writer: Process, *, tenant: str = "") -> Slot:
        """Reserve a slot of `length_bytes` for `writer` to fill, on behalf of `tenant`.

        If no free run is long enough, it evicts unleased items of that region: the least recently used and those around
        it (`mmplane.arena.region`). Raises ArenaFull (then nothing is evicted) and DeadProcess.
        """
        self._refuse_dead(writer)
        here = self._regions[region]
        found = here.reserve(length_bytes)
        if found is None:
            raise ArenaFull(region=region, length_bytes=length_bytes, ever=length_bytes > here.length_bytes)
        offset_bytes, evicted = found
        for item in evicted:
            self._evict(item)
        slot = Slot(region, offset_bytes, length_bytes, self._next_generation)
        self._next_generation += 1
        self._occupants[slot.generation] = self._claims[writer][slot.generation] = here.add(slot, writer, tenant)
        self._count_held()
        return slot

    def commit(self, slot: Slot, writer: Process) -> bool:
        """The writer has finished and will not touch these bytes again: WRITING -> READY.

        Returns False if the slot was discarded in the meantime; then this only ends the writer's claim, and the bytes
        are free. Raises StaleSlot and NotHeld.
        """
        occupant = self._end_writing(slot, writer)
        if occupant.state is SlotState.QUARANTINED:
            self._drain(occupant)
            self._notice()
            return False
        occupant.apply(Event.COMMIT)
        self._settle(occupant)
        return True

    def abandon(self, slot: Slot, writer: Process) -> None:
        """The writer has stopped, and the bytes are useless (media that cannot be decoded). They are freed.

        Raises StaleSlot and NotHeld.
        """
        self._drain(self._end_writing(slot, writer))
        self._notice()

    def publish(self, key: bytes, item: Item) -> Publication:
        """Index a finished item. An existing key keeps its item; the caller then discards or leases its own slot.

        Raises StaleSlot if the item's slot is gone or discarded.
        """
        occupant = self._live(item.slot)
        assert occupant.state is SlotState.READY, "publish follows commit"
        present = self._items.get(key)
        if present is not None:
            return Publication(present, accepted=present.slot == item.slot)
        assert occupant.key is None, "one slot has one key"
        self._items[key] = item
        occupant.key = key
        self._settle(occupant)
        self._notice()  # it may be that nobody holds it
        return Publication(item, accepted=True)

    def lookup(self, key: bytes) -> Item | None:
        """The item under this key, which becomes the most recently used of its region. Counted as a hit or a miss."""
        item = self._items.get(key)
        if item is None:
            self._misses += 1
            return None
        self._hits += 1
        self._regions[item.slot.region].use(self._occupants[item.slot.generation])
        return item

    def holds(self, key: bytes) -> bool:
        """Whether there is an item under this key. Not counted as a use."""
        return key in self._items

    @property
    def regions(self) -> int:
        """The number of regions."""
        return len(self._regions)

    def add_region(self, length_bytes: int) -> int:
        """Add a region and return its number, the last. Raises ValueError like the constructor."""
        self._regions.append(Region(length_bytes, self._align_bytes))
        return len(self._regions) - 1

    def lease(self, slot: Slot, process: Process, tag: int) -> None:
        """Keep a finished slot in place for (process, tag), once more. Raises StaleSlot and DeadProcess."""
        self._refuse_dead(process)
        occupant = self._live(slot)
        assert occupant.state is SlotState.READY, "only finished bytes are leased"
        was_evictable = occupant.counted_as == "evictable"
        occupant.leases.add(process, tag)
        self._leases += 1
        self._claims[process][slot.generation] = occupant
        self._settle(occupant)
        if was_evictable:
            self._count_held()

    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        """End one lease. Returns True if that freed the bytes: nobody else holds them and they are not indexed.

        Raises StaleSlot and NotHeld.
        """
        occupant = self._occupant(slot)
        occupant.leases.drop(process, tag)
        self._leases -= 1
        if not occupant.leases.holds(process):
            self._unclaim(process, occupant)
        freed = self._drain(occupant)
        self._notice()
        return freed

    def discard(self, slot: Slot) -> bool:
        """The owner no longer wants the slot. It is unindexed now. Returns True if it was freed, False if quarantined.

        A quarantined slot is freed when each holder has returned it (commit, abandon, release) or been reaped.
        Discarding it again changes nothing. Raises StaleSlot.
        """
        occupant = self._occupant(slot)
        self._unindex(occupant)
        occupant.apply(Event.DISCARD)
        freed = self._drain(occupant)
        self._notice()
        return freed

    def reaped(self, process: Process) -> tuple[Slot, ...]:
        """This process is dead, as its pidfd has confirmed, so its claims end. Returns the slots that this freed.

        A half-written slot of a dead writer is freed too: nobody will finish it, and nobody can touch it any more.
        """
        life = (process.role, process.index)
        self._reaped[life] = max(process.incarnation, self._reaped.get(life, -1))
        freed = []
        for occupant in self._claims.pop(process, {}).values():
            self._leases -= occupant.leases.drop_process(process)
            if occupant.writer == process:
                occupant.writer = None
            if self._drain(occupant):
                freed.append(occupant.slot)
        self._notice()
        return tuple(freed)

    def region_bytes(self, region: int) -> int:
        """The length of this region."""
        return self._regions[region].length_bytes

    def free_bytes(self, region: int) -> int:
        """The number of unused bytes of this region."""
        return self._regions[region].free_bytes

    def is_held(self, slot: Slot) -> bool:
        """Whether some process writes or leases this slot now. Raises StaleSlot."""
        return self._occupant(slot).is_held

    def has_claims(self, process: Process) -> bool:
        """Whether this process writes or leases any slot."""
        return bool(self._claims.get(process))

    def held_bytes(self, tenant: str, regions: Iterable[int]) -> int:
        """The bytes of this tenant in these regions that cannot be evicted now."""
        return sum(self._regions[region].held_bytes[tenant] for region in regions)

    def room(self, region: int) -> int:
        """The longest slot, in bytes, that `reserve` could provide in this region now, including evictions."""
        return self._regions[region].room_bytes

    def statistics(self) -> ArenaStatistics:
        """Bytes by state, per region and in total, and the counts since the start."""
        regions = tuple(region.statistics() for region in self._regions)
        return ArenaStatistics(
            regions=regions,
            total=sum_regions(regions),
            slots=len(self._occupants),
            leases=self._leases,
            items=len(self._items),
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            held_bytes_max=self._held_bytes_max,
        )

    def check_integrity(self) -> None:
        """Assert that regions, occupants, claims and index are consistent, and that no figure has drifted."""
        for region in self._regions:
            region.check_integrity()
        assert sum(len(region) for region in self._regions) == len(self._occupants)
        for generation, occupant in self._occupants.items():
            occupant.check_integrity()
            assert generation == occupant.slot.generation < self._next_generation
            assert occupant.reserved_bytes >= occupant.slot.length_bytes
            assert occupant.slot.offset_bytes in self._regions[occupant.slot.region]
        keys = {occupant.key: occupant.slot for occupant in self._occupants.values() if occupant.key is not None}
        assert keys == {key: item.slot for key, item in self._items.items()}
        assert self._leases == sum(occupant.leases.total for occupant in self._occupants.values())
        for process, claimed in self._claims.items():
            held = {g for g, o in self._occupants.items() if o.writer == process or o.leases.holds(process)}
            assert set(claimed) == held

    def _count_held(self) -> None:
        """Update the maximum of bytes that could not be evicted."""
        held_bytes = sum(region.unevictable_bytes for region in self._regions)
        self._held_bytes_max = max(self._held_bytes_max, held_bytes)

    def _occupant(self, slot: Slot) -> Occupant:
        occupant = self._occupants.get(slot.generation)
        if occupant is None or occupant.slot != slot:
            raise StaleSlot(f"{slot} is not in use")
        return occupant

    def _live(self, slot: Slot) -> Occupant:
        """The occupant, if it may gain holders: the owner still wants it."""
        occupant = self._occupant(slot)
        if occupant.state is SlotState.QUARANTINED:
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
        self._unclaim(writer, occupant)
        return occupant

    def _unclaim(self, process: Process, occupant: Occupant) -> None:
        """This process neither writes nor leases it any more."""
        del self._claims[process][occupant.slot.generation]

    def _evict(self, occupant: Occupant) -> None:
        """Forget an item whose bytes have been reserved for another."""
        self._unindex(occupant)
        self._evictions += 1
        self._forget(occupant, Event.EVICT)

    def _unindex(self, occupant: Occupant) -> None:
        if occupant.key is not None:
            del self._items[occupant.key]
            occupant.key = None

    def _settle(self, occupant: Occupant) -> None:
        self._regions[occupant.slot.region].settle(occupant)

    def _drain(self, occupant: Occupant) -> bool:
        """Free it unless some process holds it or it is indexed. Returns whether it was freed."""
        if occupant.is_held or occupant.key is not None:
            self._settle(occupant)
            return False
        self._forget(occupant, Event.DRAIN)
        self._regions[occupant.slot.region].free(occupant)
        return True

    def _forget(self, occupant: Occupant, event: Event) -> None:
        occupant.apply(event)
        del self._occupants[occupant.slot.generation]
