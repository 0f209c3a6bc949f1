"""Named cases of the arena: each is a sentence of its contract. The model covers the rest (test_arena_model.py)."""

from __future__ import annotations

import msgspec
import pytest
from arena_machine import item_of

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull, DeadProcess, NotHeld, StaleSlot
from mmplane.arena.leases import Process
from mmplane.core.records import Slot

WORKER = Process("worker", 0, 1)
OTHER = Process("worker", 1, 1)
RANKS = Process("ranks", 0, 1)
LINE = 64


def one_region(lines: int = 4) -> Arena:
    return Arena([lines * LINE])


def ready(arena: Arena, lines: int = 1, region: int = 0) -> Slot:
    slot = arena.reserve(region, lines * LINE, WORKER)
    assert arena.commit(slot, WORKER)
    return slot


def published(arena: Arena, key: bytes, lines: int = 1) -> Slot:
    slot = ready(arena, lines)
    assert arena.publish(key, item_of(key, slot)).accepted
    return slot


def overlap(one: Slot, other: Slot) -> bool:
    return (
        one.region == other.region
        and one.offset_bytes < other.offset_bytes + other.length_bytes
        and other.offset_bytes < one.offset_bytes + one.length_bytes
    )


def test_life_of_an_item() -> None:
    arena = one_region()
    slot = arena.reserve(0, 100, WORKER)
    assert arena.statistics().total.writing_bytes == 2 * LINE
    arena.commit(slot, WORKER)
    assert arena.statistics().total.unclaimed_bytes == 2 * LINE
    item = item_of(b"key", slot)
    arena.publish(b"key", item)
    assert arena.lookup(b"key") == item
    arena.lease(slot, RANKS, 17)
    assert arena.statistics().total.leased_bytes == 2 * LINE
    assert not arena.release(slot, RANKS, 17), "it stays, to be asked for again"
    statistics = arena.statistics()
    assert (statistics.total.evictable_bytes, statistics.items, statistics.hits, statistics.leases) == (
        2 * LINE,
        1,
        1,
        0,
    )
    arena.check_integrity()


def test_a_slot_that_is_not_indexed_is_free_after_its_last_lease() -> None:
    arena = one_region()
    slot = ready(arena)
    arena.lease(slot, RANKS, 1)
    arena.lease(slot, RANKS, 1)
    assert not arena.release(slot, RANKS, 1)
    assert arena.release(slot, RANKS, 1)
    with pytest.raises(StaleSlot):
        arena.release(slot, RANKS, 1)
    assert arena.statistics().total.free_bytes == 4 * LINE


def test_the_writer_stopped_in_mid_write_keeps_its_bytes_until_it_is_reaped() -> None:
    """Invariant 6: whatever else is served meanwhile, bytes that may still be written are nobody else's."""
    arena = one_region(8)
    stopped = arena.reserve(0, 3 * LINE, WORKER)
    assert not arena.discard(stopped), "the item timed out; its writer is stopped, not dead"
    for number in range(50):
        key = number.to_bytes(4, "little")
        slot = arena.reserve(0, (1 + number % 5) * LINE, OTHER)
        assert not overlap(slot, stopped)
        arena.commit(slot, OTHER)
        arena.publish(key, item_of(key, slot))
    with pytest.raises(ArenaFull) as full:
        arena.reserve(0, 6 * LINE, OTHER)
    assert not full.value.ever
    assert arena.room(0) == 5 * LINE
    assert arena.statistics().total.quarantined_bytes == 3 * LINE
    assert arena.reaped(WORKER) == (stopped,)
    assert arena.room(0) == 8 * LINE
    assert overlap(arena.reserve(0, 8 * LINE, OTHER), stopped)
    arena.check_integrity()


def test_the_stopped_writer_that_goes_on_ends_the_quarantine_by_itself() -> None:
    arena = one_region()
    slot = arena.reserve(0, LINE, WORKER)
    arena.discard(slot)
    assert not arena.commit(slot, WORKER), "too late to be of use"
    assert arena.statistics().total.free_bytes == 4 * LINE


def test_discard_waits_for_every_reader() -> None:
    arena = one_region()
    slot = published(arena, b"key")
    arena.lease(slot, RANKS, 1)
    arena.lease(slot, OTHER, 1)
    assert not arena.discard(slot)
    assert arena.lookup(b"key") is None, "nobody new gets it"
    with pytest.raises(StaleSlot):
        arena.lease(slot, RANKS, 2)
    with pytest.raises(StaleSlot):
        arena.publish(b"key", item_of(b"key", slot))
    assert not arena.discard(slot), "a second time changes nothing"
    assert not arena.release(slot, RANKS, 1)
    assert arena.reaped(OTHER) == (slot,)


def test_a_dead_writers_half_written_slot_is_freed_and_its_finished_ones_stay() -> None:
    arena = one_region()
    finished = published(arena, b"key")
    half = arena.reserve(0, LINE, WORKER)
    assert arena.reaped(WORKER) == (half,)
    assert arena.lookup(b"key") == item_of(b"key", finished)


def test_the_dead_claim_nothing_and_their_successors_do() -> None:
    arena = one_region()
    slot = published(arena, b"key")
    arena.reaped(RANKS)
    with pytest.raises(DeadProcess):
        arena.lease(slot, RANKS, 1)
    with pytest.raises(DeadProcess):
        arena.reserve(0, LINE, RANKS)
    arena.lease(slot, Process("ranks", 0, 2), 1)


def test_abandoned_bytes_are_free_at_once() -> None:
    arena = one_region()
    slot = arena.reserve(0, LINE, WORKER)
    arena.abandon(slot, WORKER)
    assert arena.statistics().total.free_bytes == 4 * LINE
    discarded = arena.reserve(0, LINE, WORKER)
    arena.discard(discarded)
    arena.abandon(discarded, WORKER)
    assert arena.statistics().slots == 0


def test_only_its_writer_finishes_a_slot() -> None:
    arena = one_region()
    slot = arena.reserve(0, LINE, WORKER)
    for call in (arena.commit, arena.abandon):
        with pytest.raises(NotHeld):
            call(slot, OTHER)
    arena.commit(slot, WORKER)
    with pytest.raises(NotHeld):
        arena.commit(slot, WORKER)


def test_a_late_release_never_reaches_the_new_occupant() -> None:
    arena = one_region(1)
    old = ready(arena)
    arena.lease(old, RANKS, 1)
    arena.release(old, RANKS, 1)
    new = ready(arena)
    assert new.offset_bytes == old.offset_bytes
    arena.lease(new, RANKS, 1)
    for refused in (arena.release, arena.lease):
        with pytest.raises(StaleSlot):
            refused(old, RANKS, 1)
    for call in (arena.discard, lambda slot: arena.commit(slot, WORKER)):
        with pytest.raises(StaleSlot):
            call(old)
    assert arena.statistics().leases == 1


def test_a_slot_that_differs_in_anything_is_stale() -> None:
    arena = one_region()
    slot = ready(arena)
    for name in ("region", "offset_bytes", "length_bytes", "generation"):
        forged = msgspec.structs.replace(slot, **{name: getattr(slot, name) + 1})
        with pytest.raises(StaleSlot):
            arena.lease(forged, RANKS, 1)


def test_publishing_a_present_key_keeps_the_present_item() -> None:
    arena = one_region()
    first = published(arena, b"key")
    second = ready(arena)
    publication = arena.publish(b"key", item_of(b"key", second))
    assert (publication.accepted, publication.item.slot) == (False, first)
    assert arena.discard(second), "the caller's own slot is the caller's to give up"
    assert arena.publish(b"key", item_of(b"key", first)).accepted, "the present item again"
    assert arena.lookup(b"key") == item_of(b"key", first)


def test_what_only_a_bug_in_the_owner_can_do() -> None:
    arena = one_region()
    writing = arena.reserve(0, LINE, WORKER)
    with pytest.raises(AssertionError):
        arena.publish(b"key", item_of(b"key", writing))
    with pytest.raises(AssertionError):
        arena.lease(writing, RANKS, 1)
    slot = published(arena, b"key")
    with pytest.raises(AssertionError):
        arena.publish(b"another", item_of(b"another", slot))
    arena.check_integrity()


def test_the_least_recently_used_goes_first() -> None:
    arena = one_region(3)
    for key in (b"a", b"b", b"c"):
        published(arena, key)
    arena.lookup(b"a")
    published(arena, b"d")
    assert [arena.lookup(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_leased_items_are_passed_over() -> None:
    arena = one_region(2)
    oldest = published(arena, b"a")
    published(arena, b"b")
    arena.lease(oldest, RANKS, 1)
    published(arena, b"c")
    assert arena.lookup(b"a") is not None
    assert arena.lookup(b"b") is None


def test_only_what_lies_in_the_way_is_evicted() -> None:
    arena = one_region(4)
    for key in (b"a", b"b", b"c", b"d"):
        published(arena, key)
    for key in (b"b", b"a", b"d", b"c"):
        arena.lookup(key)
    arena.reserve(0, 2 * LINE, WORKER)  # `b` is the oldest, and of its neighbours `a` is older than `c`
    assert [arena.lookup(key) is not None for key in (b"a", b"b", b"c", b"d")] == [False, False, True, True]
    assert arena.statistics().evictions == 2


def test_a_reserve_that_cannot_succeed_evicts_nothing() -> None:
    arena = one_region(4)
    for key in (b"a", b"b", b"c"):
        published(arena, key)
    arena.reserve(0, LINE, WORKER)
    with pytest.raises(ArenaFull) as full:
        arena.reserve(0, 4 * LINE, WORKER)
    assert (full.value.ever, full.value.region, full.value.length_bytes) == (False, 0, 4 * LINE)
    with pytest.raises(ArenaFull) as full:
        arena.reserve(0, 4 * LINE + 1, WORKER)
    assert full.value.ever
    assert all(arena.lookup(key) for key in (b"a", b"b", b"c"))
    assert arena.statistics().evictions == 0


def test_one_regions_pressure_is_not_the_others() -> None:
    arena = Arena([2 * LINE, 2 * LINE])
    here = ready(arena, 2, region=0)
    arena.publish(b"here", item_of(b"here", here))
    there = ready(arena, 2, region=1)
    arena.publish(b"there", item_of(b"there", there))
    arena.reserve(1, LINE, WORKER)
    assert arena.lookup(b"here") is not None
    assert arena.lookup(b"there") is None
    total = arena.statistics().total
    assert (total.length_bytes, total.largest_free_bytes, total.writing_bytes) == (4 * LINE, LINE, LINE)


def test_a_new_owner_of_old_memory_starts_above_its_predecessor() -> None:
    epoch = 3
    slot = Arena([LINE], first_generation=epoch << 40).reserve(0, 1, WORKER)
    assert slot.generation == epoch << 40
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(slot), type=Slot) == slot


@pytest.mark.parametrize("region_bytes", [0, 100])
def test_a_region_is_a_positive_multiple_of_the_alignment(region_bytes: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        Arena([region_bytes])
