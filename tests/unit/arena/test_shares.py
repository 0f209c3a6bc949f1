"""Leases of messages: they end with their readers, and with nobody else."""

from __future__ import annotations

import pytest

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.shares import Shares
from mmplane.core.records import Slot

OWNER, WRITER = Process("keeper", 0, 1), Process("worker", 1, 1)
RANKS = [Process("rank", number, 1) for number in range(3)]


@pytest.fixture
def arena() -> Arena:
    return Arena([4096])


@pytest.fixture
def shares(arena: Arena) -> Shares:
    return Shares(arena, OWNER)


@pytest.fixture
def slot(arena: Arena) -> Slot:
    slot = arena.reserve(0, 100, WRITER)
    arena.commit(slot, WRITER)
    return slot


def test_a_lease_ends_with_the_last_share(arena: Arena, shares: Shares, slot: Slot) -> None:
    number = shares.lease(slot)
    shares.decide(number, RANKS[:2])
    assert shares.end(number, RANKS[0])
    assert not shares.end(number, RANKS[0]), "each ends its share once"
    assert not shares.end(number, RANKS[2]), "it was not sent to that one"
    assert arena.is_held(slot)
    assert len(shares) == 1
    assert shares.end(number, RANKS[1])
    assert arena.statistics().total.free_bytes == 4096
    assert len(shares) == 0


def test_the_dead_hold_nothing_and_the_others_go_on(arena: Arena, shares: Shares, slot: Slot) -> None:
    number = shares.lease(slot)
    shares.decide(number, RANKS[:2])
    shares.reaped(RANKS[0])
    assert arena.is_held(slot)
    shares.reaped(RANKS[1])
    assert len(shares) == 0
    assert arena.statistics().leases == 0


@pytest.mark.parametrize("readers", [0, 2])
def test_a_message_that_was_never_sent_is_revoked_once(arena: Arena, shares: Shares, slot: Slot, readers: int) -> None:
    number = shares.lease(slot)
    if readers:
        shares.decide(number, RANKS[:readers])
    assert shares.revoke(number)
    assert not shares.revoke(number)
    assert not any(shares.end(number, rank) for rank in RANKS)
    assert arena.statistics().leases == 0


def test_a_lease_of_nobody_is_over(arena: Arena, shares: Shares, slot: Slot) -> None:
    shares.decide(shares.lease(slot), [])
    assert len(shares) == 0
    assert arena.statistics().leases == 0
