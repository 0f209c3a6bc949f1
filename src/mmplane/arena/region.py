"""One region: where a new slot goes, and which items are evicted for it. Pure.

If no free run is long enough, one of the oldest items is the starting point: it is evicted, then its neighbours by
address, always the older of the two, until the run is long enough. Several such runs are compared, and the one whose
items are least likely to be requested again is evicted: an item counts 1/n if n uses came after its own. So making room
costs the evictions and a limited search, however much is cached. A lack of room is detected without a search: a second
allocator keeps the *clearings*, the runs in which every byte is free or evictable.

An item is in use until its last lease ends. `docs/performance.md` compares the hit rate with strict LRU.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import islice
from math import inf
from typing import NamedTuple

from mmplane.arena.allocator import Allocator
from mmplane.arena.leases import Occupant, Process
from mmplane.arena.statistics import KINDS, RegionStatistics
from mmplane.core.records import Slot

OLDEST_MAX = 32
"""How many of the oldest items are tried as starting points."""
VISITED_MAX = 256
"""No further starting point is tried once the compared runs contain this many items."""


class Run(NamedTuple):
    """The bytes to empty, the slot's place in them, their items and free runs, and what they are worth."""

    start_bytes: int
    end_bytes: int
    offset_bytes: int
    length: int
    cost: float


class Region:
    """The slots of one region, by place and by last use. Raises ValueError like `Allocator`."""

    def __init__(self, length_bytes: int, align_bytes: int) -> None:
        self.length_bytes = length_bytes
        self._bytes = Allocator(length_bytes, align_bytes)
        self._clearings = Allocator(length_bytes, align_bytes)  # evictable items count as free here
        self._occupants: dict[int, Occupant] = {}  # by offset
        self._evictable: OrderedDict[int, Occupant] = OrderedDict()  # by offset, least recently used first
        self._kind_bytes = dict.fromkeys(KINDS, 0)
        self._uses = 0
        self.held_bytes: Counter[str] = Counter()
        """The bytes of each tenant that cannot be evicted."""
        self.unevictable_bytes = 0
        """The bytes that cannot be evicted, of all tenants."""

    def __len__(self) -> int:
        return len(self._occupants)

    def __contains__(self, offset_bytes: int) -> bool:
        return offset_bytes in self._occupants

    @property
    def free_bytes(self) -> int:
        """The number of unused bytes."""
        return self._bytes.free_bytes

    @property
    def room_bytes(self) -> int:
        """The longest slot that `reserve` could provide now."""
        return self._clearings.longest_free[0]

    def reserve(self, length_bytes: int) -> tuple[int, list[Occupant]] | None:
        """An offset, and the items evicted for it, which this region has forgotten. None if there is no room.

        Nothing is evicted while a free run is long enough.
        """
        wanted_bytes = self._bytes.rounded(length_bytes)
        if wanted_bytes > self.room_bytes:
            return None
        offset_bytes, evicted = self._bytes.reserve_nowait(length_bytes), []
        if offset_bytes is None:
            run = self._cheapest_run(wanted_bytes)
            offset_bytes = run.offset_bytes
            for freed_bytes in self._bytes.reserve_over(run.start_bytes, run.end_bytes, offset_bytes, wanted_bytes):
                evicted.append(self._evictable.pop(freed_bytes))
                self._forget(evicted[-1])
        self._clearings.reserve_at(offset_bytes, wanted_bytes)
        return offset_bytes, evicted

    def add(self, slot: Slot, writer: Process, tenant: str) -> Occupant:
        """Begin the first use of what `reserve` returned."""
        occupant = Occupant(slot, self._bytes.rounded(slot.length_bytes), writer, tenant)
        self._occupants[slot.offset_bytes] = occupant
        self._count(occupant, occupant.reserved_bytes)
        return occupant

    def free(self, occupant: Occupant) -> None:
        """Free these bytes, which nobody wants any more."""
        offset_bytes = occupant.slot.offset_bytes
        if self._evictable.pop(offset_bytes, None) is None:
            self._clearings.free(offset_bytes)
        self._bytes.free(offset_bytes)
        self._forget(occupant)

    def settle(self, occupant: Occupant) -> None:
        """Update the figures after its claims, key or state have changed."""
        before, now = occupant.counted_as, occupant.kind
        if before == now:
            return
        offset_bytes, length_bytes = occupant.slot.offset_bytes, occupant.reserved_bytes
        self._kind_bytes[before] -= length_bytes
        self._kind_bytes[now] += length_bytes
        occupant.counted_as = now
        if before == "evictable":
            self._hold(occupant.tenant, length_bytes)
            del self._evictable[offset_bytes]
            self._clearings.reserve_at(offset_bytes, length_bytes)
        elif now == "evictable":
            self._hold(occupant.tenant, -length_bytes)
            self._evictable[offset_bytes] = occupant
            self._clearings.free(offset_bytes)
            self._stamp(occupant)

    def use(self, occupant: Occupant) -> None:
        """Note a use: it becomes the last to be evicted."""
        if occupant.counted_as == "evictable":
            self._evictable.move_to_end(occupant.slot.offset_bytes)
            self._stamp(occupant)

    def statistics(self) -> RegionStatistics:
        """The current figures."""
        figures = self._bytes.statistics()
        return RegionStatistics(
            length_bytes=figures.length_bytes,
            free_bytes=figures.free_bytes,
            largest_free_bytes=figures.largest_free_bytes,
            free_runs=figures.free_runs,
            **{f"{kind}_bytes": bytes_ for kind, bytes_ in self._kind_bytes.items()},
        )

    def check_integrity(self) -> None:
        """Assert that both allocators, the order of use and the figures are consistent."""
        self._bytes.check_integrity()
        self._clearings.check_integrity()
        here = self._occupants.items()
        assert self._bytes.used() == {offset: o.reserved_bytes for offset, o in here}
        assert self._clearings.used() == {offset: o.reserved_bytes for offset, o in here if o.kind != "evictable"}
        assert dict(self._evictable) == {offset: o for offset, o in here if o.kind == "evictable"}
        ages = [occupant.used_at for occupant in self._evictable.values()]
        assert ages == sorted(set(ages))
        for kind, bytes_ in self._kind_bytes.items():
            assert bytes_ == sum(o.reserved_bytes for _, o in here if o.counted_as == o.kind == kind)
        assert self.length_bytes == self.free_bytes + sum(self._kind_bytes.values())
        held: Counter[str] = Counter()
        for _, occupant in here:
            held[occupant.tenant] += occupant.reserved_bytes if occupant.kind != "evictable" else 0
        assert +held == self.held_bytes
        assert self.unevictable_bytes == held.total() == self.length_bytes - self._clearings.free_bytes

    def _stamp(self, occupant: Occupant) -> None:
        self._uses += 1
        occupant.used_at = self._uses

    def _forget(self, occupant: Occupant) -> None:
        del self._occupants[occupant.slot.offset_bytes]
        self._count(occupant, -occupant.reserved_bytes)

    def _count(self, occupant: Occupant, more_bytes: int) -> None:
        self._kind_bytes[occupant.counted_as] += more_bytes
        if occupant.counted_as != "evictable":
            self._hold(occupant.tenant, more_bytes)

    def _hold(self, tenant: str, more_bytes: int) -> None:
        self.unevictable_bytes += more_bytes
        held_bytes = self.held_bytes[tenant] = self.held_bytes[tenant] + more_bytes
        if not held_bytes:
            del self.held_bytes[tenant]

    def _cheapest_run(self, wanted_bytes: int) -> Run:
        """The best run around one of the oldest items. If none fits, all that were tried count as used."""
        oldest, best, visited = list(islice(self._evictable.values(), OLDEST_MAX)), None, 0
        for occupant in oldest:
            low_bytes, high_bytes = self._clearings.free_run(occupant.slot.offset_bytes)
            if high_bytes - low_bytes < wanted_bytes:
                continue
            run = self._grow(occupant.slot.offset_bytes, low_bytes, high_bytes, wanted_bytes)
            if best is None or run.cost < best.cost:
                best = run
            visited += run.length
            if run.length == 1 or visited > VISITED_MAX:
                break
        if best is not None:
            return best
        for occupant in oldest:
            self.use(occupant)
        length_bytes, low_bytes = self._clearings.longest_free
        return self._grow(low_bytes, low_bytes, low_bytes + length_bytes, wanted_bytes)

    def _grow(self, start_bytes: int, low_bytes: int, high_bytes: int, wanted_bytes: int) -> Run:
        """Grow a run from one item by its older neighbour. The slot goes to the end that was not reached last."""
        offset_bytes = end_bytes = start_bytes
        length, cost = 0, 0.0
        while end_bytes - start_bytes < wanted_bytes:
            before = self._age(self._bytes.start_of(start_bytes)) if low_bytes < start_bytes < end_bytes else None
            after = self._age(end_bytes) if end_bytes < high_bytes else None
            if before is None or (after is not None and after >= before):
                age, offset_bytes = after, start_bytes
                end_bytes = self._bytes.end_of(end_bytes)
            else:
                age, start_bytes = before, self._bytes.start_of(start_bytes)
                offset_bytes = end_bytes - wanted_bytes
            assert age is not None, "the clearing is long enough"
            length, cost = length + 1, cost + 1 / age
        return Run(start_bytes, end_bytes, offset_bytes, length, cost)

    def _age(self, offset_bytes: int) -> float:
        """How many uses ago this run was used; infinite if it is free."""
        occupant = self._occupants.get(offset_bytes)
        return inf if occupant is None else self._uses + 1 - occupant.used_at
