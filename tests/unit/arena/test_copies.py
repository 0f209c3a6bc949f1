"""Copies on other machines, with memory that says which generation was written where.

Nothing is read too early, nothing is overwritten too early, and every mirror gets each item once.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random

import pytest

from mmplane.arena.arena import Arena
from mmplane.arena.copies import MIRRORS_MAX, SENT_MAX, Copies, TooManyMirrors
from mmplane.arena.errors import ArenaFull, NotHeld
from mmplane.arena.leases import Process
from mmplane.core.records import Item, Slot, Tensor
from mutation import Mutant, check_it_is_killed

PAGE = 64
PAGES = 24
PRODUCER = Process("producer", 0, 0)
READER = Process("rank", 0, 0)


class World:
    """An arena, its mirrors, and what is in the memory of each: the generation that wrote each page."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.arena = Arena([PAGES * PAGE], align_bytes=PAGE)
        self.copies = Copies(self.arena)
        self.here = [0] * PAGES
        self.there: dict[Process, list[int]] = {}
        self.wire: dict[Process, deque[Item]] = {}
        self.written: Counter[tuple[Process, int]] = Counter()
        self.held: list[Item] = []
        self.leased: list[tuple[Process, Item]] = []

    def join(self) -> Process:
        mirror = self.copies.add()
        self.there[mirror], self.wire[mirror] = [0] * PAGES, deque()
        for item in self.held:
            self.copies.want(item)
        return mirror

    def put(self, pages: int = 0) -> Item | None:
        length_bytes = (pages or self.random.randint(1, 6)) * PAGE
        try:
            slot = self.arena.reserve(0, length_bytes, PRODUCER)
        except ArenaFull:
            return None
        for page in _pages(slot):
            self.here[page] = slot.generation
        self.arena.commit(slot, PRODUCER)
        key = slot.generation.to_bytes(8, "big")
        item = Item(key, "image", slot, (Tensor("f", "uint8", (length_bytes - 1,), 0),))
        self.arena.publish(key, item)
        self.hold(item)
        return item

    def hold(self, item: Item) -> None:
        self.arena.lease(item.slot, PRODUCER, 1)
        self.held.append(item)
        self.copies.want(item)

    def drop(self, item: Item) -> None:
        self.held.remove(item)
        self.arena.release(item.slot, PRODUCER, 1)

    def send(self, mirror: Process) -> None:
        self.wire[mirror] += self.copies.due(mirror)
        assert len(self.wire[mirror]) <= SENT_MAX

    def write(self, mirror: Process) -> None:
        """The mirror writes what the owner's memory holds now: bytes are read while they are sent."""
        item = self.wire[mirror].popleft()
        for page in _pages(item.slot):
            assert self.here[page] == item.slot.generation, "sent after it was used again"
            self.there[mirror][page] = item.slot.generation
        self.written[mirror, item.slot.generation] += 1
        assert self.written[mirror, item.slot.generation] == 1, "sent twice"
        self.copies.wrote(mirror, item.slot.generation)

    def lease(self, mirror: Process, item: Item) -> bool:
        if not self.copies.has(mirror, item.slot):
            return False
        self.arena.lease(item.slot, READER, 2)
        self.leased.append((mirror, item))
        return True

    def end(self, at: int) -> None:
        _, item = self.leased.pop(at)
        self.arena.release(item.slot, READER, 2)

    def lose(self, mirror: Process) -> None:
        self.copies.lost(mirror)
        del self.there[mirror], self.wire[mirror]
        for at in reversed([at for at, (one, _) in enumerate(self.leased) if one == mirror]):
            self.end(at)

    def check(self) -> None:
        self.arena.check_integrity()
        for mirror, item in self.leased:
            for page in _pages(item.slot):
                assert self.there[mirror][page] == item.slot.generation, "read too early, or overwritten"

    def step(self) -> None:
        random = self.random
        mirrors = list(self.there)
        match random.choice(("put", "put", "drop", "send", "send", "write", "write", "lease", "end", "again", "life")):
            case "put":
                self.put()
            case "drop" if self.held:
                self.drop(random.choice(self.held))
            case "again" if self.held:
                self.copies.want(random.choice(self.held))
            case "send" if mirrors:
                self.send(random.choice(mirrors))
            case "write" if sending := [one for one in mirrors if self.wire[one]]:
                self.write(random.choice(sending))
            case "lease" if mirrors and self.held:
                self.lease(random.choice(mirrors), random.choice(self.held))
            case "end" if self.leased:
                self.end(random.randrange(len(self.leased)))
            case "life" if random.random() < 0.3:
                if len(mirrors) < 2:
                    self.join()
                else:
                    self.lose(random.choice(mirrors))
        self.check()


def _pages(slot: Slot) -> range:
    return range(slot.offset_bytes // PAGE, (slot.offset_bytes + slot.length_bytes) // PAGE)


def check_any_order() -> None:
    for seed in range(60):
        world = World(seed)
        for _ in range(150):
            world.step()


def test_in_any_order_nothing_is_read_or_overwritten_too_early_and_nothing_is_sent_twice() -> None:
    check_any_order()


def test_a_slot_is_used_again_once_it_is_written_everywhere_and_nobody_reads_it() -> None:
    world = World()
    first, second = world.join(), world.join()
    item = world.put(PAGES)
    assert item is not None
    world.drop(item)
    for mirror in (first, second):
        assert world.put(PAGES) is None
        world.send(mirror)
        world.write(mirror)
    assert world.lease(first, item)
    assert world.put(PAGES) is None
    world.end(0)
    assert world.put(PAGES) is not None


def test_nothing_is_leased_before_it_is_there() -> None:
    world = World()
    mirror = world.join()
    item = world.put()
    assert item is not None
    assert not world.lease(mirror, item)
    world.send(mirror)
    assert not world.lease(mirror, item)
    world.write(mirror)
    assert world.lease(mirror, item)


def test_a_mirror_that_joins_late_gets_what_is_held() -> None:
    world = World()
    item, dropped = world.put(), world.put()
    assert item is not None
    assert dropped is not None
    world.drop(dropped)
    mirror = world.join()
    world.send(mirror)
    assert [one.slot for one in world.wire[mirror]] == [item.slot]


def check_few_are_on_their_way() -> None:
    world = World()
    mirror = world.join()
    items = [world.put(1) for _ in range(SENT_MAX + 2)]
    world.send(mirror)
    assert list(world.wire[mirror]) == items[:SENT_MAX]
    world.write(mirror)
    world.send(mirror)
    assert list(world.wire[mirror]) == items[1 : SENT_MAX + 1]


def test_only_so_many_are_on_their_way_at_a_time() -> None:
    check_few_are_on_their_way()


def check_a_lost_mirror_holds_nothing() -> None:
    world = World()
    mirror = world.join()
    item = world.put(PAGES)
    assert item is not None
    world.drop(item)
    world.lose(mirror)
    assert world.put(PAGES) is not None
    assert world.copies.statistics() == {"mirrors": 0, "copies_lacking": 0, "copied_bytes": 0}


def test_a_lost_mirror_holds_nothing() -> None:
    check_a_lost_mirror_holds_nothing()


def check_what_was_not_sent_was_not_written() -> None:
    world = World()
    mirror = world.join()
    item = world.put()
    assert item is not None
    with pytest.raises(NotHeld):
        world.copies.wrote(mirror, item.slot.generation)
    world.send(mirror)
    world.write(mirror)
    with pytest.raises(NotHeld):
        world.copies.wrote(mirror, item.slot.generation)


def test_what_was_not_sent_was_not_written() -> None:
    check_what_was_not_sent_was_not_written()


def test_there_are_only_so_many_mirrors_and_a_place_is_free_again() -> None:
    world = World()
    mirrors = [world.join() for _ in range(MIRRORS_MAX)]
    with pytest.raises(TooManyMirrors):
        world.join()
    world.lose(mirrors[3])
    again = world.join()
    assert again.index == mirrors[3].index
    assert again.incarnation > mirrors[3].incarnation
    item = world.put()
    assert item is not None
    world.send(again)
    world.write(again)
    assert world.lease(again, item)


def test_the_bytes_of_arrays_are_counted_without_padding() -> None:
    world = World()
    for mirror in (world.join(), world.join()):
        world.put(2)
        world.send(mirror)
        while world.wire[mirror]:
            world.write(mirror)
    assert world.copies.statistics()["copied_bytes"] == 3 * (2 * PAGE - 1)


MUTANTS = [
    Mutant(
        "no claim while it is sent", Copies.want, "self._arena.lease(slot, process, _COPY)", "pass", check_any_order
    ),
    Mutant("there as soon as it is sent", Copies.has, "== slot.generation", "is not None", check_any_order),
    Mutant("sent twice", Copies.want, "not known and", "", check_any_order),
    Mutant("no limit", Copies.due, "and len(mirror.sent) < SENT_MAX", "", check_few_are_on_their_way),
    Mutant("claims for ever", Copies.lost, "self._arena.reaped(process)", "pass", check_a_lost_mirror_holds_nothing),
    Mutant(
        "whatever is told was written",
        Copies.wrote,
        "item = mirror.sent.pop(generation, None)",
        "item = mirror.sent.pop(generation, None) or mirror.waiting.pop(generation, None)",
        check_what_was_not_sent_was_not_written,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
