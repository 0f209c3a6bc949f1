"""Best fit, alignment, coalescing, and a comparison with a map of every unit of the region."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, strategies
from profile_ci import CI

from mmplane.arena.allocator import Allocator


def reserved(allocator: Allocator, length_bytes: int) -> int:
    offset_bytes = allocator.reserve_nowait(length_bytes)
    assert offset_bytes is not None
    return offset_bytes


@pytest.mark.parametrize(("length_bytes", "align_bytes"), [(0, 64), (-64, 64), (100, 64), (64, 48), (64, 0)])
def test_refuses_a_region_that_its_alignment_does_not_divide(length_bytes: int, align_bytes: int) -> None:
    with pytest.raises(ValueError, match=r"alignment|multiple"):
        Allocator(length_bytes, align_bytes)


def test_lengths_are_rounded_up_to_the_alignment() -> None:
    allocator = Allocator(256)
    assert [allocator.reserve_nowait(length) for length in (1, 64, 65, 1)] == [0, 64, 128, None]
    assert allocator.statistics().used_bytes == 256
    assert allocator.used() == {0: 64, 64: 64, 128: 128}


def test_takes_the_shortest_run_that_fits() -> None:
    allocator = Allocator(64 * 10)
    offsets = [reserved(allocator, 64 * units) for units in (3, 1, 2, 1, 3)]
    for index in (0, 2, 4):
        allocator.free(offsets[index])
    assert reserved(allocator, 128) == offsets[2]
    assert reserved(allocator, 64) == offsets[0], "of equal runs the lowest"
    allocator.check_integrity()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_free_runs_grow_together_with_both_neighbours(order: tuple[int, ...]) -> None:
    allocator = Allocator(192)
    offsets = [reserved(allocator, 64) for _ in range(3)]
    for index in order:
        allocator.free(offsets[index])
        allocator.check_integrity()
    statistics = allocator.statistics()
    assert (statistics.free_runs, statistics.largest_free_bytes) == (1, 192)
    assert reserved(allocator, 192) == 0


def test_a_full_region_has_no_run() -> None:
    allocator = Allocator(64)
    reserved(allocator, 64)
    statistics = allocator.statistics()
    assert (statistics.free_bytes, statistics.largest_free_bytes, statistics.free_runs) == (0, 0, 0)
    assert allocator.reserve_nowait(1) is None


@pytest.mark.parametrize("offset_bytes", [0, 64, 1])
def test_freeing_what_is_not_reserved_is_a_bug(offset_bytes: int) -> None:
    allocator = Allocator(192)
    allocator.free(reserved(allocator, 128))
    with pytest.raises(AssertionError):
        allocator.free(offset_bytes)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_was_freed_can_be_reserved_again_where_it_was(index: int) -> None:
    allocator = Allocator(64 * 6)
    offsets = [reserved(allocator, 128) for _ in range(3)]
    before = allocator.used()
    for offset_bytes in offsets:
        allocator.free(offset_bytes)
    order = offsets[index:] + offsets[:index]
    for offset_bytes in order:
        allocator.reserve_at(offset_bytes, 65)
        allocator.check_integrity()
    assert allocator.used() == before


@pytest.mark.parametrize(("offset_bytes", "length_bytes"), [(0, 64), (64, 256), (192, 256), (320, 128), (384, 64)])
def test_what_is_not_free_cannot_be_reserved(offset_bytes: int, length_bytes: int) -> None:
    allocator = Allocator(64 * 6)
    offsets = [reserved(allocator, 64) for _ in range(6)]
    with pytest.raises(AssertionError):
        allocator.reserve_at(offset_bytes, length_bytes)
    for index in (1, 3, 4, 5):
        allocator.free(offsets[index])
    with pytest.raises(AssertionError):
        allocator.reserve_at(offset_bytes, length_bytes)
    allocator.check_integrity()


UNITS = 16
steps = strategies.lists(strategies.tuples(strategies.booleans(), strategies.integers(1, UNITS)), max_size=60)


@CI
@given(steps)
def test_agrees_with_a_map_of_units(steps: list[tuple[bool, int]]) -> None:
    allocator = Allocator(UNITS * 64)
    owners: list[int | None] = [None] * UNITS
    for number, (reserves, units) in enumerate(steps):
        runs = [len(list(run)) for owner, run in groupby(owners) if owner is None]
        used = sorted(allocator.used())
        if reserves:
            offset_bytes = allocator.reserve_nowait(units * 64 - number % 64)
            assert (offset_bytes is not None) == (max(runs, default=0) >= units)
            if offset_bytes is not None:
                taken = slice(offset_bytes // 64, offset_bytes // 64 + units)
                assert set(owners[taken]) == {None}
                owners[taken] = [number] * units
        elif used:
            offset_bytes = used[units % len(used)]
            allocator.free(offset_bytes)
            gone = owners[offset_bytes // 64]
            owners = [None if owner == gone else owner for owner in owners]
        allocator.check_integrity()
        runs = [len(list(run)) for owner, run in groupby(owners) if owner is None]
        statistics = allocator.statistics()
        assert (statistics.free_runs, statistics.largest_free_bytes) == (len(runs), max(runs, default=0) * 64)
