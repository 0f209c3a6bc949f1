"""A test must be able to fail: each mutant breaks one rule of the arena on purpose, and the machine must notice.

A mutant that survives means that the machine, not the arena, is broken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import pytest
from arena_machine import ALIGN_BYTES, REGION_BYTES, ArenaMachine
from hypothesis import Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from profile_ci import CI, FUZZ_EXAMPLES

from mmplane.arena.allocator import Allocator
from mmplane.arena.arena import Arena, Publication
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Event, Occupant, Process, SlotState
from mmplane.arena.region import Region, Run
from mmplane.core.records import Item, Slot

# A found failure is all that is asked: no shrinking, no report.
HUNT = settings(
    CI,
    max_examples=FUZZ_EXAMPLES or 200,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    report_multiple_bugs=False,
)

REPLAY = settings(HUNT, max_examples=6, derandomize=False)


class DiscardFreesUnderTheWriter(Arena):
    def discard(self, slot: Slot) -> bool:
        occupant = self._occupant(slot)
        occupant.writer = None
        return super().discard(slot)


class DiscardKeepsTheKey(Arena):
    def _unindex(self, occupant: Occupant) -> None:
        if occupant.state is not SlotState.READY or not occupant.leases.total:
            super()._unindex(occupant)


class ReleaseIgnoresGeneration(Arena):
    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        here = [o.slot for o in self._occupants.values() if o.slot.offset_bytes == slot.offset_bytes]
        return super().release(next((s for s in here if s.region == slot.region), slot), process, tag)


class ReleaseEndsAllOfATag(Arena):
    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        leases = self._occupant(slot).leases
        while leases._counts.get(process, {}).get(tag, 0) > 1:
            leases.drop(process, tag)
        return super().release(slot, process, tag)


class EvictsTheLeased(Arena):
    def _settle(self, occupant: Occupant) -> None:
        if occupant.kind != "leased":
            super()._settle(occupant)

    def _evict(self, occupant: Occupant) -> None:
        for process in list(occupant.leases._counts):
            occupant.leases.drop_process(process)
        super()._evict(occupant)


class EvictsBeforeItKnows(Arena):
    def reserve(self, region: int, length_bytes: int, writer: Process) -> Slot:
        try:
            return super().reserve(region, length_bytes, writer)
        except ArenaFull:
            for occupant in list(self._regions[region]._evictable.values()):
                self.discard(occupant.slot)
            raise


class EvictsWhatIsNotInTheWay(Arena):
    def reserve(self, region: int, length_bytes: int, writer: Process) -> Slot:
        before = self._evictions
        slot = super().reserve(region, length_bytes, writer)
        for occupant in list(self._regions[region]._evictable.values())[: self._evictions - before]:
            self.discard(occupant.slot)
        return slot


class LookupIsNoUse(Arena):
    def lookup(self, key: bytes) -> Item | None:
        item = super().lookup(key)
        if item is not None:
            self._regions[item.slot.region]._evictable.pop(item.slot.offset_bytes, None)
        return item


class PublishOverwrites(Arena):
    def publish(self, key: bytes, item: Item) -> Publication:
        present = self._items.get(key)
        if present is not None and self._live(item.slot).key is None:
            self._unindex(self._occupant(present.slot))
        return super().publish(key, item)


class CommitRevivesTheDiscarded(Arena):
    def commit(self, slot: Slot, writer: Process) -> bool:
        occupant = self._end_writing(slot, writer)
        occupant.state = SlotState.READY
        return True


class TheDeadKeepTheirLeases(Arena):
    def reaped(self, process: Process) -> tuple[Slot, ...]:
        held = [o for o in self._occupants.values() if process in o.leases._counts]
        counts = [dict(o.leases._counts[process]) for o in held]
        for occupant in held:
            occupant.leases.drop_process(process)
        freed = super().reaped(process)
        for occupant, tags in zip(held, counts, strict=True):
            for tag, count in tags.items():
                for _ in range(count):
                    occupant.leases.add(process, tag)
        return freed


class TheDeadKeepWriting(Arena):
    def reaped(self, process: Process) -> tuple[Slot, ...]:
        writing = [o for o in self._occupants.values() if o.writer == process]
        for occupant in writing:
            occupant.writer = Process("nobody", 0, 0)
        freed = super().reaped(process)
        for occupant in writing:
            occupant.writer = process
        return freed


class TheDeadMayClaim(Arena):
    def _refuse_dead(self, process: Process) -> None:
        pass


class GenerationsRepeat(Arena):
    def _forget(self, occupant: Occupant, event: Event) -> None:
        super()._forget(occupant, event)
        if not self._occupants:
            self._next_generation = 1


class AlwaysTooLargeEver(Arena):
    def reserve(self, region: int, length_bytes: int, writer: Process) -> Slot:
        try:
            return super().reserve(region, length_bytes, writer)
        except ArenaFull:
            raise ArenaFull(region=region, length_bytes=length_bytes, ever=True) from None


class EvictsTheNewest(Region):
    def _cheapest_run(self, wanted_bytes: int) -> Run:
        self._evictable = OrderedDict(reversed(self._evictable.items()))
        return super()._cheapest_run(wanted_bytes)

    def check_integrity(self) -> None:
        """Blind: the machine must notice by who is gone."""


class EvictsThoughARunIsFree(Region):
    def reserve(self, length_bytes: int) -> tuple[int, list[Occupant]] | None:
        free = self._bytes.reserve_nowait
        self._bytes.reserve_nowait = lambda _: None if self._evictable else free(length_bytes)  # type: ignore[method-assign]
        try:
            return super().reserve(length_bytes)
        finally:
            self._bytes.reserve_nowait = free  # type: ignore[method-assign]


class ForgetsToCountDown(Region):
    def _forget(self, occupant: Occupant) -> None:
        occupant.counted_as, before = "quarantined", occupant.counted_as
        self._kind_bytes["quarantined"] += occupant.reserved_bytes * (before != "quarantined")
        super()._forget(occupant)

    def check_integrity(self) -> None:
        """Blind: the machine must notice by the figures."""


class NoCoalescing(Allocator):
    def _coalesced(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        return offset_bytes, length_bytes

    def check_integrity(self) -> None:
        """Blind: the machine must notice by what it cannot get."""


class FreesOneLineLess(Allocator):
    def _add_free_run(self, offset_bytes: int, length_bytes: int) -> None:
        super()._add_free_run(offset_bytes, max(ALIGN_BYTES, length_bytes - ALIGN_BYTES))

    def check_integrity(self) -> None:
        """Blind, as above."""


class RoundsDown(Allocator):
    def rounded(self, length_bytes: int) -> int:
        return max(self.align_bytes, length_bytes // self.align_bytes * self.align_bytes)


def with_region(region: type[Region]) -> Arena:
    arena = Arena(REGION_BYTES, align_bytes=ALIGN_BYTES)
    arena._regions = [region(length_bytes, ALIGN_BYTES) for length_bytes in REGION_BYTES]
    return arena


def with_allocator(allocator: type[Allocator]) -> Arena:
    arena = Arena(REGION_BYTES, align_bytes=ALIGN_BYTES)
    for region in arena._regions:
        region._bytes, region._clearings = (allocator(region.length_bytes, ALIGN_BYTES) for _ in range(2))
    return arena


MUTANTS: dict[str, Callable[[], Arena]] = (
    {mutant.__name__: partial(mutant, REGION_BYTES, align_bytes=ALIGN_BYTES) for mutant in Arena.__subclasses__()}
    | {mutant.__name__: partial(with_region, mutant) for mutant in Region.__subclasses__()}
    | {mutant.__name__: partial(with_allocator, mutant) for mutant in Allocator.__subclasses__()}
)


KNOWN = {"EvictsWhatIsNotInTheWay": 3, "EvictsTheNewest": 3, "TheDeadKeepWriting": 2}
"""Seeds whose first few examples kill a mutant that the hunt finds late; seed 0 kills the others."""


def hunt(new_arena: Callable[[], Arena], name: str = "", *, examples: int = HUNT.max_examples) -> None:
    """Try the seed that is known for the mutant of this name, then search. `make fuzz` only searches."""
    machine = type("Mutant", (ArenaMachine,), {"new_arena": lambda self: new_arena()})
    if name and not FUZZ_EXAMPLES:
        run_state_machine_as_test(seed(KNOWN.get(name, 0))(machine), settings=REPLAY)
    run_state_machine_as_test(machine, settings=settings(HUNT, max_examples=examples))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_kills(name: str) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        hunt(MUTANTS[name], name)
    traceback = [str(entry.path) for entry in caught.traceback]
    assert any(path.endswith("arena_machine.py") for path in traceback), "it died of something else"


def test_the_hunt_spares_the_arena_itself() -> None:
    """`test_arena_model` searches longer, and `make fuzz` much longer."""
    hunt(lambda: Arena(REGION_BYTES, align_bytes=ALIGN_BYTES), examples=FUZZ_EXAMPLES or 20)


@pytest.mark.parametrize("state", [SlotState.WRITING, SlotState.QUARANTINED])
def test_the_table_alone_stops_a_free_under_a_writer(state: SlotState) -> None:
    """Even an owner that forgets to ask who holds a slot is stopped by the step itself."""
    occupant = Occupant(Slot(0, 0, 1, 1), ALIGN_BYTES, Process("worker", 0, 1))
    occupant.state = state
    with pytest.raises(AssertionError, match="held"):
        occupant.apply(Event.DRAIN)
