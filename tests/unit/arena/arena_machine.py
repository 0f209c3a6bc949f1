"""A simple model of the arena and a machine that drives both: every answer and every figure must agree.

The model is a list of uses of bytes, scanned anew for each question; it knows nothing of runs, tables or indexes. Slots
are drawn from all that were ever handed out, so most calls are late, repeated, or from the wrong process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError, ArenaFull, DeadProcess, NotHeld, StaleSlot
from mmplane.arena.leases import Process
from mmplane.arena.statistics import RegionStatistics
from mmplane.core.records import Item, Slot

ALIGN_BYTES = 64
REGION_BYTES = (6 * ALIGN_BYTES, 4 * ALIGN_BYTES)
KEYS = (b"a", b"b", b"c", b"d")

regions = strategies.sampled_from(range(len(REGION_BYTES)))
lives = strategies.sampled_from([("worker", 0), ("worker", 1), ("ranks", 0)])
keys = strategies.sampled_from(KEYS)
tags = strategies.integers(1, 2)
# Mostly one or two lines, so that slots lie side by side; sometimes more than a region holds.
lengths = strategies.one_of(strategies.integers(1, 2 * ALIGN_BYTES), strategies.integers(1, 7 * ALIGN_BYTES))


@dataclass
class Use:
    """One use of some bytes."""

    slot: Slot
    writer: Process | None
    state: str = "writing"
    key: bytes | None = None
    used_at: int = 0
    leases: Counter[tuple[Process, int]] = field(default_factory=Counter)

    @property
    def first(self) -> int:
        return self.slot.offset_bytes

    @property
    def end(self) -> int:
        return self.first + rounded(self.slot.length_bytes)

    @property
    def held(self) -> bool:
        return self.writer is not None or self.leases.total() > 0

    @property
    def evictable(self) -> bool:
        return self.key is not None and not self.held

    @property
    def kind(self) -> str:
        if self.state != "ready":
            return self.state
        if self.leases.total():
            return "leased"
        return "unclaimed" if self.key is None else "evictable"


def rounded(length_bytes: int) -> int:
    return (length_bytes + ALIGN_BYTES - 1) // ALIGN_BYTES * ALIGN_BYTES


def grow(tiles: list[tuple[int, int, int | None]], low: int, high: int, wanted: int, at: int) -> set[int]:
    """Take the older neighbour, either if they are as old, until it is long enough: where the slot begins then."""
    start, end = tiles[low][0], tiles[high][1]
    if end - start >= wanted:
        return {at}
    ages = {side: tiles[side][2] for side in (low - 1, high + 1) if 0 <= side < len(tiles)}
    sides = {side: age for side, age in ages.items() if age is not None}
    taken = [side for side, age in sides.items() if age == min(sides.values())]
    grown = [
        grow(tiles, side, high, wanted, end - wanted) if side < low else grow(tiles, low, side, wanted, start)
        for side in taken
    ]
    return set().union(*grown)


def item_of(key: bytes, slot: Slot) -> Item:
    return Item(content_key=key, modality="image", slot=slot, tensors=())


class ArenaMachine(RuleBasedStateMachine):
    """The real arena beside the model. Mutants override `new_arena`."""

    slots = Bundle("slots")

    def __init__(self) -> None:
        super().__init__()
        self.arena = self.new_arena()
        self.uses: list[Use] = []
        self.incarnations: Counter[tuple[str, int]] = Counter()
        self.clock = 0
        self.generation = 0
        self.hits = self.misses = self.evictions = self.held_bytes_max = 0

    def new_arena(self) -> Arena:
        return Arena(REGION_BYTES, align_bytes=ALIGN_BYTES)

    # What the model says

    def process(self, life: tuple[str, int], age: int = 0) -> Process:
        return Process(*life, self.incarnations[life] - age)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def find(self, slot: Slot) -> Use | None:
        return next((use for use in self.uses if use.slot == slot), None)

    def indexed(self, key: bytes) -> Use | None:
        return next((use for use in self.uses if use.key == key), None)

    def evictable(self, region: int) -> list[Use]:
        return [use for use in self.uses if use.slot.region == region and use.evictable]

    def tiles(self, region: int) -> list[tuple[int, int, int | None]]:
        """First byte, end and age of every run: of free ones 0, of what must stay None."""
        uses = sorted((use for use in self.uses if use.slot.region == region), key=lambda use: use.first)
        made, end = [], 0
        for first, after, age in [(u.first, u.end, u.used_at if u.evictable else None) for u in uses] + [
            (REGION_BYTES[region], REGION_BYTES[region], None)
        ]:
            made += [(end, first, 0)] if end < first else []
            made += [(first, after, age)] if first < after else []
            end = after
        return made

    def places(self, region: int, wanted: int) -> set[int]:
        """Where a slot that must evict may go: around an item, but none that is younger than one that is enough."""
        tiles = self.tiles(region)
        enough = min((age for first, end, age in tiles if age and end - first >= wanted), default=self.clock)
        items = [(index, first) for index, (first, _, age) in enumerate(tiles) if age and age <= enough]
        return set().union(*(grow(tiles, index, index, wanted, first) for index, first in items))

    def longest_run(self, region: int, without: list[Use]) -> int:
        kept = [use for use in self.uses if use.slot.region == region and use not in without]
        taken = {unit for use in kept for unit in range(use.first, use.end, ALIGN_BYTES)}
        longest = run = 0
        for unit in range(0, REGION_BYTES[region], ALIGN_BYTES):
            run = 0 if unit in taken else run + ALIGN_BYTES
            longest = max(longest, run)
        return longest

    def forget_if_done(self, use: Use) -> bool:
        """It has lost a claim, or its key."""
        done = not use.held and use.key is None
        use.used_at = self.clock if use.evictable else 0
        if done:
            self.uses.remove(use)
        return done

    # What may happen

    @rule(target=slots, region=regions, length_bytes=lengths, life=lives)
    def reserve(self, region: int, length_bytes: int, life: tuple[str, int]) -> Slot | None:
        if self.longest_run(region, self.evictable(region)) < length_bytes:
            with pytest.raises(ArenaFull) as full:
                self.arena.reserve(region, length_bytes, self.process(life))
            assert full.value.ever == (length_bytes > REGION_BYTES[region])
            return None
        wanted = rounded(length_bytes)
        places = self.places(region, wanted) if self.longest_run(region, []) < wanted else None
        slot = self.arena.reserve(region, length_bytes, self.process(life))
        assert (slot.region, slot.length_bytes) == (region, length_bytes)
        assert slot.generation > self.generation, "a generation is used once"
        self.generation = slot.generation
        new = Use(slot, self.process(life))
        assert new.first % ALIGN_BYTES == 0
        assert 0 <= new.first < new.end <= REGION_BYTES[region]
        assert places is None or new.first in places
        self.evict_under(new, needed=places is not None)
        self.uses.append(new)
        self.note_held()
        return slot

    def note_held(self) -> None:
        held_bytes = sum(use.end - use.first for use in self.uses if not use.evictable)
        self.held_bytes_max = max(self.held_bytes_max, held_bytes)

    def evict_under(self, new: Use, *, needed: bool) -> None:
        """Who has been evicted lies in the new slot and was unleased, and no free run was long enough."""
        victims = [
            use
            for use in self.uses
            if use.slot.region == new.slot.region and use.first < new.end and new.first < use.end
        ]
        assert bool(victims) == needed
        for victim in victims:
            assert victim.evictable, f"{victim} was held"
        self.uses = [use for use in self.uses if use not in victims]
        self.evictions += len(victims)

    @rule(target=slots, region=regions, length_bytes=lengths, life=lives, key=keys)
    def materialise(self, region: int, length_bytes: int, life: tuple[str, int], key: bytes) -> Slot | None:
        """The whole way of an item at once: without it most runs end before there is anything to evict."""
        slot = self.reserve(region, length_bytes, life)
        if slot is not None:
            self.commit(slot, life)
            self.publish(slot, key)
        return slot

    @rule(slot=slots, life=lives)
    def commit(self, slot: Slot | None, life: tuple[str, int]) -> None:
        self.end_writing(slot, self.process(life))

    @rule(slot=slots)
    def commit_by_its_writer(self, slot: Slot | None) -> None:
        use = slot and self.find(slot)
        if use and use.writer:
            self.end_writing(slot, use.writer)

    def end_writing(self, slot: Slot | None, writer: Process) -> None:
        if slot is None:
            return
        use = self.find(slot)
        if use is None or use.writer != writer:
            with pytest.raises(StaleSlot if use is None else NotHeld):
                self.arena.commit(slot, writer)
            return
        use.writer = None
        assert self.arena.commit(slot, writer) == (use.state == "writing")
        if use.state == "writing":
            use.state = "ready"
        else:
            assert self.forget_if_done(use)

    @rule(slot=slots, life=lives)
    def abandon(self, slot: Slot | None, life: tuple[str, int]) -> None:
        if slot is None:
            return
        use = self.find(slot)
        if use is None or use.writer != self.process(life):
            with pytest.raises(StaleSlot if use is None else NotHeld):
                self.arena.abandon(slot, self.process(life))
            return
        use.writer = None
        self.arena.abandon(slot, self.process(life))
        assert self.forget_if_done(use)

    @rule(slot=slots, key=keys)
    def publish(self, slot: Slot | None, key: bytes) -> None:
        use = slot and self.find(slot)
        if slot is None or (use and (use.state == "writing" or use.key not in (None, key))):
            return  # a bug in the owner, and an AssertionError: test_arena.py
        if not use or use.state == "quarantined":
            with pytest.raises(StaleSlot):
                self.arena.publish(key, item_of(key, slot))
            return
        present = self.indexed(key)
        publication = self.arena.publish(key, item_of(key, slot))
        if present is None:
            use.key, use.used_at = key, self.tick()
        assert publication.accepted == (present in (None, use))
        assert publication.item == item_of(key, (present or use).slot)

    @rule(key=keys)
    def lookup(self, key: bytes) -> None:
        use = self.indexed(key)
        found = self.arena.lookup(key)
        if use is None:
            assert found is None
            self.misses += 1
        else:
            assert found == item_of(key, use.slot)
            use.used_at = self.tick() if use.evictable else 0
            self.hits += 1

    @rule(slot=slots, life=lives, tag=tags, times=strategies.integers(1, 3))
    def lease(self, slot: Slot | None, life: tuple[str, int], tag: int, times: int) -> None:
        use = slot and self.find(slot)
        if slot is None or (use and use.state == "writing"):
            return
        if not use or use.state == "quarantined":
            with pytest.raises(StaleSlot):
                self.arena.lease(slot, self.process(life), tag)
            return
        for _ in range(times):
            self.arena.lease(slot, self.process(life), tag)
        use.leases[self.process(life), tag] += times
        self.note_held()

    @rule(slot=slots, life=lives, tag=tags)
    def release(self, slot: Slot | None, life: tuple[str, int], tag: int) -> None:
        if slot is None:
            return
        use = self.find(slot)
        claim = (self.process(life), tag)
        if use and use.leases[claim]:
            self.give_back(use, claim)
            return
        with pytest.raises(StaleSlot if use is None else NotHeld):
            self.arena.release(slot, *claim)

    @precondition(lambda self: any(use.leases.total() for use in self.uses))
    @rule(pick=strategies.integers(0, 9))
    def release_by_a_holder(self, pick: int) -> None:
        held = [(use, claim) for use in self.uses for claim, count in use.leases.items() if count]
        self.give_back(*held[pick % len(held)])

    def give_back(self, use: Use, claim: tuple[Process, int]) -> None:
        use.leases[claim] -= 1
        self.tick()
        assert self.arena.release(use.slot, *claim) == self.forget_if_done(use)

    @rule(slot=slots)
    def discard(self, slot: Slot | None) -> None:
        if slot is None:
            return
        use = self.find(slot)
        if use is None:
            with pytest.raises(StaleSlot):
                self.arena.discard(slot)
            return
        use.state, use.key = "quarantined", None
        assert self.arena.discard(slot) == self.forget_if_done(use)

    @rule(life=lives)
    def reaped(self, life: tuple[str, int]) -> None:
        dead = self.process(life)
        self.incarnations[life] += 1
        freed = set()
        self.tick()
        for use in list(self.uses):
            claims = [claim for claim, count in use.leases.items() if claim[0] == dead and count]
            for claim in claims:
                del use.leases[claim]
            wrote = use.writer == dead
            use.writer = None if wrote else use.writer
            if (claims or wrote) and self.forget_if_done(use):
                freed.add(use.slot)
        assert set(self.arena.reaped(dead)) == freed

    # What must be refused, whatever the state

    @rule(slot=slots, other=slots, life=lives, tag=tags)
    def claim_with_anothers_generation(
        self, slot: Slot | None, other: Slot | None, life: tuple[str, int], tag: int
    ) -> None:
        if slot is None or other is None:
            return
        forged = msgspec.structs.replace(slot, generation=other.generation)
        if forged in (slot, other):
            return
        for refused in (self.arena.lease, self.arena.release):
            with pytest.raises(StaleSlot):
                refused(forged, self.process(life), tag)

    @precondition(lambda self: self.incarnations)
    @rule(slot=slots, life=lives, tag=tags)
    def claim_by_the_dead(self, slot: Slot | None, life: tuple[str, int], tag: int) -> None:
        if slot is None or not self.incarnations[life]:
            return
        dead = self.process(life, age=1)
        with pytest.raises(DeadProcess):
            self.arena.reserve(slot.region, 1, dead)
        with pytest.raises(DeadProcess):
            self.arena.lease(slot, dead, tag)
        for call in (self.arena.commit, self.arena.abandon):
            with pytest.raises(ArenaError):
                call(slot, dead)
        with pytest.raises(ArenaError):
            self.arena.release(slot, dead, tag)

    # What always holds

    @invariant()
    def is_intact(self) -> None:
        self.arena.check_integrity()

    @invariant()
    def figures_agree(self) -> None:
        statistics = self.arena.statistics()
        for region, figures in enumerate(statistics.regions):
            assert figures == self.region_figures(region, figures.free_runs)
            assert self.arena.room(region) == self.longest_run(region, self.evictable(region))
        assert statistics.slots == len(self.uses)
        assert statistics.leases == sum(use.leases.total() for use in self.uses)
        assert statistics.items == sum(use.key is not None for use in self.uses)
        assert (statistics.hits, statistics.misses) == (self.hits, self.misses)
        assert statistics.evictions == self.evictions
        assert statistics.held_bytes_max == self.held_bytes_max

    def region_figures(self, region: int, free_runs: int) -> RegionStatistics:
        by_kind: Counter[str] = Counter()
        for use in self.uses:
            if use.slot.region == region:
                by_kind[f"{use.kind}_bytes"] += use.end - use.first
        return RegionStatistics(
            length_bytes=REGION_BYTES[region],
            free_bytes=REGION_BYTES[region] - by_kind.total(),
            largest_free_bytes=self.longest_run(region, []),
            free_runs=free_runs,
            **by_kind,
        )
