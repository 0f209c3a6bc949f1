"""The waiting room: in whatever order turns, timeouts and departures come, nothing leaks (A1, R19)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, strategies

from frontend_loop import in_loop, settle
from mmplane.core.errors import RequestError, overloaded
from mmplane.waiting import lines, room
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WaitingRoom


class Chairs:
    """Ten chairs, and a room to wait for them."""

    def __init__(self, count: int = 10) -> None:
        self.free = count
        self.room: WaitingRoom[int] = WaitingRoom(
            give_back=self.give_back, refusal=lambda _: overloaded("no chairs"), waiting_max=64
        )

    def take(self, count: int) -> int | Fit:
        if count > self.free:
            return Fit.NO_ROOM
        self.free -= count
        return count

    def give_back(self, count: int) -> None:
        self.free += count
        self.room.offer()

    def asking(self, count: int, tenant: str = "a") -> asyncio.Task[int]:
        return asyncio.create_task(self.room.wait(tenant, partial(self.take, count)))


async def refused(task: asyncio.Task[int]) -> bool:
    with suppress(RequestError):
        await task
        return False
    return True


@in_loop
async def test_a_turn_that_comes_as_its_waiter_goes_is_given_back() -> None:
    """A1: the grant and the cancellation fall into one turn of the loop, in both orders."""
    for grant_first in (True, False):
        chairs = Chairs()
        held = await chairs.asking(10)
        waiting, behind = chairs.asking(6), chairs.asking(5)
        await settle()
        if grant_first:
            chairs.give_back(held)
            waiting.cancel()
        else:
            waiting.cancel()
            chairs.give_back(held)
        await settle()
        assert waiting.cancelled()
        assert behind.done(), "whoever was behind it has its turn"
        chairs.give_back(behind.result())
        assert (chairs.free, chairs.room.waiting) == (10, 0)


@in_loop
async def test_a_waiter_that_has_waited_in_vain_and_goes_at_once() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(lines, "STALLED_SECONDS", 0.0)
        chairs = Chairs(0)
        waiting = chairs.asking(1)
        await asyncio.sleep(0)
        chairs.room.offer()
        waiting.cancel()
        await settle()
        assert waiting.done()
        assert chairs.room.waiting == 0


@in_loop
async def test_one_tenants_waiters_are_not_anothers() -> None:
    """A4: the sum of all tenants' waiters was compared with the limit."""
    chairs = Chairs()
    held = await chairs.asking(10)
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(room, "WAITING_MIN", 2)
        waiting = [chairs.asking(10, "alice") for _ in range(3)]
        await settle()
        assert [task.done() for task in waiting] == [False, False, True], "two of hers may wait"
        assert await refused(waiting.pop())
        bob = chairs.asking(1, "bob")
        await settle()
        assert not bob.done(), "he waits, whoever else does"
    chairs.give_back(held)
    for task in (waiting[0], bob, waiting[1]):
        chairs.give_back(await task)
    assert chairs.free == 10


@in_loop
async def test_what_fits_is_granted_at_once_while_others_wait() -> None:
    chairs = Chairs()
    held = await chairs.asking(5)
    alice = chairs.asking(6, "alice")
    await settle()
    bob = chairs.asking(5, "bob")
    await settle()
    assert (alice.done(), bob.done()) == (False, True)
    chairs.give_back(held + await bob)
    chairs.give_back(await alice)


@in_loop
async def test_a_line_is_refused_when_it_has_not_moved_though_nothing_happens() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(lines, "STALLED_SECONDS", 0.02)
        chairs = Chairs(0)
        tasks = [chairs.asking(1), chairs.asking(1), chairs.asking(1, "b")]
        assert [await refused(task) for task in tasks] == [True, True, True]
        assert chairs.room.waiting == 0


@in_loop
async def test_more_may_wait_where_turns_come_quickly() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(room, "WAITING_MIN", 1)
        chairs = Chairs()
        for _ in range(3):
            chairs.give_back(await chairs.asking(1))
        held = await chairs.asking(10)
        waiting = [chairs.asking(10) for _ in range(5)]
        await settle()
        assert [task.done() for task in waiting] == [False] * 4 + [True], "four had their turn lately"
        assert await refused(waiting.pop())
        chairs.give_back(held)
        for task in waiting:
            chairs.give_back(await task)


Event = tuple[str, str, int]
events = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["ask", "ask", "give back", "cancel", "in vain", "turn"]),
        strategies.sampled_from("abc"),
        strategies.integers(0, 10),
    ),
    max_size=40,
)


@given(events=events)
@in_loop
async def test_nothing_is_lost_in_any_order_of_turns_timeouts_and_departures(events: list[Event]) -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(lines, "STALLED_SECONDS", 1e9)
        chairs = Chairs()
        asked: list[asyncio.Task[int]] = []
        held: list[int] = []

        def collect() -> None:
            for task in [task for task in asked if task.done()]:
                asked.remove(task)
                if not task.cancelled() and task.exception() is None:
                    held.append(task.result())

        for kind, tenant, number in events:
            if kind == "ask":
                asked.append(chairs.asking(number, tenant))
            elif kind == "give back" and held:
                chairs.give_back(held.pop(number % len(held)))  # the task of whoever gets it has not run yet
            elif kind == "cancel" and asked:
                asked[number % len(asked)].cancel()
            elif kind == "in vain":
                limits.setattr(lines, "STALLED_SECONDS", 0.0)
                chairs.room.offer()
                limits.setattr(lines, "STALLED_SECONDS", 1e9)
            elif kind == "turn":
                await asyncio.sleep(0)
                collect()
            assert 0 <= chairs.free <= 10
        while asked or held:
            await settle()
            collect()
            while held:
                chairs.give_back(held.pop())
        assert (chairs.free, chairs.room.waiting) == (10, 0)
