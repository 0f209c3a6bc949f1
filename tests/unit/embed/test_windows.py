"""When private pages become the region's again, and when a claim is reported."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from mmplane.arena.label import create_labelled, new_plane
from mmplane.arena.segment import WindowMapping
from mmplane.core.records import Slot
from mmplane.embed.windows import Windows
from mutation import Mutant, check_it_is_killed
from polling import HANG_S

PAGES = 4
LENGTH_BYTES = PAGES * mmap.PAGESIZE
SLOTS = [Slot(0, page * mmap.PAGESIZE, mmap.PAGESIZE, 10 + page) for page in range(PAGES)]
OURS, WRITTEN = 1, 2
"""What is in the region, and what a consumer writes to its private pages."""


class Rank:
    """Windows on one region, and what they report."""

    def __init__(self, fd: int, plane: bytes, *, in_thread: bool) -> None:
        self.reports: list[tuple[int, ...]] = []
        self.too_early = self.woken = 0
        self.windows = Windows(plane, self._report, later=self._later if in_thread else None)
        self.windows.map(0, fd, LENGTH_BYTES, "private")

    def open(self, claim: int, page: int = 0) -> Any:
        """The bytes of a slot; the claim ends with this array."""
        slot = SLOTS[page]
        window = self.windows.open(claim, slot)
        return np.frombuffer(window, np.uint8, slot.length_bytes, slot.offset_bytes)

    def _report(self, claims: Sequence[int]) -> None:
        everything = np.frombuffer(self.windows.window(0), np.uint8)
        self.reports.append(tuple(claims))
        self.too_early += bool((everything == WRITTEN).any())

    def _later(self) -> None:
        self.woken += 1


@pytest.fixture
def rank_of() -> Iterator[Callable[..., Rank]]:
    plane = new_plane()
    fd = create_labelled("test", LENGTH_BYTES, plane, 0)
    os.pwrite(fd, bytes([OURS]) * LENGTH_BYTES, 0)
    yield lambda *, in_thread=False: Rank(fd, plane, in_thread=in_thread)
    os.close(fd)


def write(array: Any) -> None:
    """As a model does that computes in place."""
    array[:] = WRITTEN


def test_pages_are_restored_before_their_claim_is_reported(rank_of: Callable[..., Rank]) -> None:
    rank = rank_of()
    write(rank.open(1))
    assert (rank.reports, rank.too_early) == ([(1,)], 0)


def test_a_thread_of_the_owner_restores_and_reports_all_at_once(rank_of: Callable[..., Rank]) -> None:
    rank = rank_of(in_thread=True)
    for page in range(PAGES):
        write(rank.open(page, page))
    assert rank.reports == []
    assert rank.woken >= PAGES
    rank.windows.settle()
    assert rank.reports == [tuple(range(PAGES))]
    rank.windows.settle()
    assert len(rank.reports) == 1, "once"


def test_an_item_that_is_opened_again_is_restored_first(rank_of: Callable[..., Rank]) -> None:
    rank = rank_of(in_thread=True)
    write(rank.open(1))
    again = rank.open(2)
    assert (again == OURS).all()
    write(again)
    rank.windows._report = rank.reports.append  # the page of claim 2 stays written
    rank.windows.settle()
    assert rank.reports == [[1]]
    assert (again == WRITTEN).all(), "nobody drops pages that are in use"


def test_views_of_one_item_share_its_pages_until_the_last_has_ended(rank_of: Callable[..., Rank]) -> None:
    rank = rank_of()
    first, second = rank.open(1), rank.open(2)
    write(first)
    rank.windows._report = rank.reports.append
    del first
    assert (second == WRITTEN).all()
    del second
    assert rank.reports == [[1], [2]]
    assert (rank.open(3) == OURS).all()


def test_an_item_is_not_opened_while_its_pages_are_being_restored(
    rank_of: Callable[..., Rank], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = rank_of(in_thread=True)
    restore, wait = WindowMapping.restore, rank.windows._restored.wait
    begun, go_on = Event(), Event()
    opened: list[Any] = []

    def slowly(self: WindowMapping, offset_bytes: int, length_bytes: int) -> bool:
        begun.set()
        assert go_on.wait(HANG_S)
        return restore(self, offset_bytes, length_bytes)

    def wait_for_it() -> bool:
        go_on.set()
        return wait(HANG_S)

    def open_and_write() -> None:
        opened.append(rank.open(3))
        write(opened[0])

    monkeypatch.setattr(WindowMapping, "restore", slowly)
    monkeypatch.setattr(rank.windows._restored, "wait", wait_for_it)
    write(rank.open(1))
    rank.windows._report = rank.reports.append
    settling, opening = Thread(target=rank.windows.settle), Thread(target=open_and_write)
    settling.start()
    assert begun.wait(HANG_S)
    assert (rank.open(2, page=1) == OURS).all(), "others are opened meanwhile"
    opening.start()
    opening.join(HANG_S)
    go_on.set()  # a mutant has not waited
    settling.join(HANG_S)
    assert (opened[0] == WRITTEN).all(), "nobody drops pages that are in use"


def test_a_claim_that_ends_while_another_is_opened_is_reported_afterwards(rank_of: Callable[..., Rank]) -> None:
    """A finalizer can run anywhere, also where this thread holds the lock."""
    rank = rank_of()
    ends = [rank.open(1)]
    window = rank.windows._mappings[0].window

    def interrupted() -> Any:
        if ends:
            ends.clear()
            assert rank.reports == [], "the lock is held"
        return window()

    rank.windows._mappings[0].window = interrupted  # type: ignore[method-assign]
    kept = rank.open(2, page=1)
    assert rank.reports == [(1,)]
    assert (kept == OURS).all()


MUTANTS = [
    Mutant(
        "pages stay as a consumer left them",
        Windows._restore,
        "mapping.restore(slot.offset_bytes, slot.length_bytes)",
        "pass",
        test_pages_are_restored_before_their_claim_is_reported,
    ),
    Mutant(
        "an item is opened while its pages are restored",
        Windows.open,
        "slot.generation in self._restoring",
        "False",
        test_an_item_is_not_opened_while_its_pages_are_being_restored,
    ),
    Mutant(
        "an item that is opened again is as a consumer left it",
        Windows.open,
        "self._unrestored.pop(slot.generation, None)",
        "False",
        test_an_item_that_is_opened_again_is_restored_first,
    ),
    Mutant(
        "a claim that ends while another is opened is forgotten",
        Windows.open,
        "self._look_again()",
        "pass",
        test_a_claim_that_ends_while_another_is_opened_is_reported_afterwards,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
