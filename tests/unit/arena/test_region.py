"""Who is evicted to make room, and that this costs what is evicted, not what is there (R21)."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from arena_machine import item_of

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.region import OLDEST_MAX, Region
from mutation import Mutant, check_it_is_killed

WORKER, RANKS = Process("worker", 0, 1), Process("ranks", 0, 1)
LINE = 64
ITEM_BYTES = 75_008
LARGE_BYTES = 18_800_000
TOO_CLOSE = LARGE_BYTES // ITEM_BYTES
"""A held slot after so many items leaves no clearing that is long enough."""
FEW, MANY = 5_000, 114_000
LINES_MAX = 40_000
"""What a slot of 250 items may cost."""


def name(number: int) -> bytes:
    return number.to_bytes(4, "little")


def publish(arena: Arena, number: int, length_bytes: int) -> None:
    slot = arena.reserve(0, length_bytes, WORKER)
    arena.commit(slot, WORKER)
    arena.publish(name(number), item_of(name(number), slot))


def full(items: int, order: list[int] | None = None, item_bytes: int = LINE) -> Arena:
    """A region full of items, side by side; `order` is that of their last use."""
    arena = Arena([items * item_bytes])
    for number in range(items):
        publish(arena, number, item_bytes)
    for number in order or ():
        arena.lookup(name(number))
    return arena


def hold(arena: Arena, number: int, process: Process = RANKS) -> None:
    arena.lease(arena._items[name(number)].slot, process, 1)


def gone(arena: Arena, items: int) -> list[int]:
    return [number for number in range(items) if not arena.holds(name(number))]


def test_of_two_neighbours_the_older_goes() -> None:
    arena = full(7, [3, 2, 5, 1, 4, 0, 6])
    arena.reserve(0, 3 * LINE, WORKER)
    assert gone(arena, 7) == [1, 2, 3]


def test_a_run_never_goes_past_a_held_slot() -> None:
    arena = full(6, [1, 2, 0, 4, 5, 3])
    hold(arena, 1)
    slot = arena.reserve(0, 3 * LINE, WORKER)
    assert gone(arena, 6) == [2, 3, 4]
    assert slot.offset_bytes == 2 * LINE


def test_the_oldest_is_spared_where_its_neighbours_are_the_newest() -> None:
    arena = full(8, [1, 4, 5, 6, 7, 3, 0, 2])
    arena.reserve(0, 2 * LINE, WORKER)
    assert gone(arena, 8) == [4, 5]


def test_free_bytes_beside_an_item_cost_no_hit() -> None:
    arena = full(6, [3, 2, 4, 5, 1, 0])
    arena.discard(arena._items[name(4)].slot)
    arena.reserve(0, 2 * LINE, WORKER)
    assert gone(arena, 6) == [3, 4]


def test_what_is_left_of_the_last_item_is_free() -> None:
    arena = full(2, item_bytes=4 * LINE)
    arena.reserve(0, 5 * LINE, WORKER)
    assert arena.statistics().total.free_bytes == 3 * LINE
    arena.check_integrity()


def test_an_item_is_in_use_until_its_last_lease_ends() -> None:
    arena = full(3)
    hold(arena, 0)
    arena.release(arena._items[name(0)].slot, RANKS, 1)
    arena.reserve(0, LINE, WORKER)
    assert gone(arena, 3) == [1]


def test_old_items_between_held_slots_do_not_hide_the_room_elsewhere() -> None:
    """All that are asked stand too close to a held slot; the next time others are asked."""
    stuck = 3 * OLDEST_MAX
    arena = full(2 * stuck + 4)
    for number in range(1, 2 * stuck, 2):
        hold(arena, number)
    first = arena.reserve(0, 2 * LINE, WORKER)
    assert first.offset_bytes >= (2 * stuck - 1) * LINE
    oldest = [occupant.key for occupant in arena._regions[0]._evictable.values()]
    assert oldest[0] == name(2 * OLDEST_MAX), "who was asked in vain is asked last"
    arena.check_integrity()


# What it costs


def lines_run(call: Callable[[], Any]) -> int:
    """Lines of the arena's code that a call executes; a comprehension counts once for each turn."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if "mmplane/arena" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return lines


def refused(arena: Arena) -> None:
    with pytest.raises(ArenaFull):
        arena.reserve(0, LARGE_BYTES, WORKER)


def a_whole_item(arena: Arena) -> None:
    arena.discard(arena._items[next(reversed(arena._items))].slot)
    slot = arena.reserve(0, ITEM_BYTES, WORKER)
    arena.commit(slot, WORKER)
    item = item_of(b"new", slot)
    arena.publish(b"new", item)
    arena.lookup(b"new")
    arena.lease(slot, RANKS, 1)
    arena.release(slot, RANKS, 1)


OPERATIONS: dict[str, Callable[[Arena], Any]] = {
    "large": lambda arena: arena.reserve(0, LARGE_BYTES, WORKER),
    "small": lambda arena: arena.reserve(0, ITEM_BYTES, WORKER),
    "refused": refused,
    "room": lambda arena: (arena.room(0), arena.free_bytes(0)),
    "figures": Arena.statistics,
    "life": a_whole_item,
    "death": lambda arena: arena.reaped(RANKS),
}
HELD: dict[str, Callable[[int], range]] = {
    "nothing": lambda items: range(0),
    "some": lambda items: range(0, FEW // 2, TOO_CLOSE // 2),
    "all but the end": lambda items: range(0, items - FEW // 5, TOO_CLOSE // 2),
    "everywhere": lambda items: range(0, items, TOO_CLOSE // 2),
}
"""Where slots in use stand: so close that no large slot has room between them."""
CASES = [
    *[("nothing", operation) for operation in OPERATIONS if operation != "refused"],
    *[("some", operation) for operation in ("large", "small", "room", "death")],
    ("all but the end", "large"),
    ("everywhere", "refused"),
    ("everywhere", "small"),
    ("everywhere", "figures"),
]


@pytest.fixture(scope="module")
def arenas() -> list[tuple[int, Arena]]:
    made = []
    for items in (FEW, MANY):
        order = list(range(items))
        random.Random(items).shuffle(order)
        order.sort(key=lambda number: number >= items - FEW // 5)  # the end was used last
        made.append((items, full(items, order, ITEM_BYTES)))
    return made


def restore(arena: Arena, items: int) -> None:
    """Nothing is held, and what was evicted is there again where it was."""
    for process in (RANKS, WORKER):
        arena.reaped(process)
    arena._reaped.clear()  # the next case's processes have the same names
    if arena.holds(b"new"):
        arena.discard(arena._items[b"new"].slot)
    for number in gone(arena, items):
        publish(arena, number, ITEM_BYTES)


@pytest.mark.parametrize(("held", "operation"), CASES)
def test_it_costs_what_is_evicted_and_not_what_is_there(
    arenas: list[tuple[int, Arena]], held: str, operation: str
) -> None:
    counts = []
    for items, arena in arenas:
        for number in HELD[held](items):
            if arena.holds(name(number)):
                hold(arena, number)
        before = arena.statistics().evictions
        counts.append(
            (lines_run(lambda arena=arena: OPERATIONS[operation](arena)), arena.statistics().evictions - before)
        )
        restore(arena, items)
    (few, few_evicted), (many, many_evicted) = counts
    assert many <= min(3 * few, LINES_MAX)
    assert many_evicted <= 3 * few_evicted <= 3 * (LARGE_BYTES // ITEM_BYTES + 1)


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant(
            "a run takes the younger neighbour",
            Region._grow,
            "after >= before",
            "after < before",
            test_of_two_neighbours_the_older_goes,
        ),
        Mutant(
            "a run goes past held slots",
            Region._grow,
            "low_bytes < start_bytes < end_bytes",
            "0 < start_bytes < end_bytes",
            test_a_run_never_goes_past_a_held_slot,
        ),
        Mutant(
            "what a run is worth does not count",
            Region._cheapest_run,
            "run.cost < best.cost",
            "False",
            test_the_oldest_is_spared_where_its_neighbours_are_the_newest,
        ),
        Mutant(
            "who was asked in vain is asked again",
            Region._cheapest_run,
            "self.use(occupant)",
            "pass",
            test_old_items_between_held_slots_do_not_hide_the_room_elsewhere,
        ),
        Mutant(
            "everybody is asked, in vain",
            Region._cheapest_run,
            "OLDEST_MAX",
            "None",
            test_it_costs_what_is_evicted_and_not_what_is_there,
            ("all but the end", "large"),
        ),
        Mutant(
            "all runs are compared",
            Region._cheapest_run,
            "visited > VISITED_MAX",
            "False",
            test_it_costs_what_is_evicted_and_not_what_is_there,
            ("nothing", "large"),
        ),
        Mutant(
            "a search tells whether there is room",
            Region.reserve,
            "wanted_bytes > self.room_bytes",
            "all(self._clearings.end_of(o) - o < wanted_bytes for o in self._clearings._by_offset)",
            test_it_costs_what_is_evicted_and_not_what_is_there,
            ("everywhere", "refused"),
        ),
        Mutant(
            "the dead are looked for in every slot",
            Arena.reaped,
            "self._claims.pop(process, {}).values()",
            "[o for o in self._occupants.values() if o.leases.holds(process) or o.writer == process]",
            test_it_costs_what_is_evicted_and_not_what_is_there,
            ("some", "death"),
        ),
        Mutant(
            "figures are added up anew",
            Region.statistics,
            "self._kind_bytes.items()",
            "{k: sum(o.reserved_bytes for o in self._occupants.values() if o.kind == k) for k in KINDS}.items()",
            test_it_costs_what_is_evicted_and_not_what_is_there,
            ("nothing", "figures"),
        ),
    ],
    ids=str,
)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    if mutant.arguments:
        arenas = request.getfixturevalue("arenas")
        mutant = replace(mutant, arguments=(arenas, *mutant.arguments))
    check_it_is_killed(mutant, request)
