"""The byte budget: what is reserved comes back whatever happens, turns are fair, and waits end (R8, R14, R19)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, strategies

from frontend_loop import in_loop, settle
from mmplane.core.errors import RequestError
from mmplane.waiting import lines
from mmplane.waiting.budget import Budget, BudgetStatistics, Reservation


async def refused(budget: Budget, length_bytes: int, tenant: str = "a") -> RequestError:
    """Of a request that may not wait."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(lines, "STALLED_SECONDS", 0.0)
        with pytest.raises(RequestError) as error:
            await budget.admit(length_bytes, tenant)
    return error.value


def asking(budget: Budget, length_bytes: int, tenant: str = "a") -> asyncio.Task[Reservation]:
    return asyncio.create_task(budget.admit(length_bytes, tenant))


async def done(*tasks: asyncio.Task[Reservation]) -> list[bool]:
    await settle()
    return [task.done() for task in tasks]


@in_loop
async def test_bytes_are_held_inside_the_block() -> None:
    budget = Budget(100)
    with await budget.admit(60), await budget.admit(40):
        assert budget.statistics() == BudgetStatistics(100, reserved_bytes=100, peak_bytes=100, refused=0)
    assert budget.statistics() == BudgetStatistics(100, reserved_bytes=0, peak_bytes=100, refused=0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@in_loop
async def test_they_come_back_when_the_block_fails(error: type[BaseException]) -> None:
    budget = Budget(100)
    with pytest.raises(error), await budget.admit(100):
        raise error
    assert budget.statistics().reserved_bytes == 0


@in_loop
async def test_they_may_come_back_earlier_and_come_back_once() -> None:
    budget = Budget(100)
    with await budget.admit(30), await budget.admit(50) as reserved:
        reserved.grow(20)
        assert budget.statistics().reserved_bytes == 100
        for _ in range(2):
            reserved.release()
        assert budget.statistics().reserved_bytes == 30
    assert budget.statistics().reserved_bytes == 0


@in_loop
async def test_what_grows_cannot_wait() -> None:
    budget = Budget(100)
    with await budget.admit(60) as reserved:
        with pytest.raises(RequestError) as error:
            reserved.grow(41)
        assert (error.value.status, budget.statistics().reserved_bytes) == (503, 60)


@in_loop
async def test_a_burst_is_told_to_come_again() -> None:
    budget = Budget(100)
    with await budget.admit(60):
        error = await refused(budget, 41)
        assert (error.status, error.retry_after_s) == (503, 1)
        with await budget.admit(40):
            pass
    with await budget.admit(41):
        assert budget.statistics().refused == 1
        assert budget.statistics().waiting == 0


@in_loop
async def test_what_never_fits_is_told_so_at_once_even_when_the_budget_is_empty() -> None:
    budget = Budget(130, kept_bytes=30, tenants=2)
    for ask, length_bytes in ((budget.admit, 51), (budget.reserve_item, 31)):
        with pytest.raises(RequestError) as error:
            await ask(length_bytes)
        assert (error.value.status, error.value.retry_after_s) == (413, None)
    assert budget.statistics().refused == 2


@in_loop
async def test_nothing_takes_nothing() -> None:
    with await Budget(0).admit(0):
        pass
    with pytest.raises(AssertionError):
        await Budget(1).admit(-1)


@in_loop
async def test_who_waits_is_served_in_order_and_nobody_overtakes() -> None:
    budget = Budget(100)
    held = await budget.admit(80)
    large, small = asking(budget, 50), asking(budget, 10)
    assert await done(large, small) == [False, False], "the small one would fit, and would starve the large one"
    held.release()
    assert await done(large, small) == [True, True]
    (await large).release()
    (await small).release()


@in_loop
async def test_the_tenant_that_holds_least_is_next() -> None:
    """One tenant's clips do not hold up another's pictures."""
    budget = Budget(100)
    held = [await budget.admit(50, "clips"), await budget.admit(50, "clips")]
    clips = [asking(budget, 50, "clips") for _ in range(2)]
    await settle()
    picture = asking(budget, 10, "pictures")
    await settle()
    held[0].release()
    assert await done(*clips, picture) == [False, False, True]
    held[1].release()
    assert await done(*clips, picture) == [True, False, True]
    (await picture).release()
    (await clips[0]).release()
    (await clips[1]).release()


@in_loop
async def test_a_tenant_at_its_share_waits_for_itself_alone() -> None:
    budget = Budget(100, tenants=2)
    held = await budget.admit(50, "clips")
    clip = asking(budget, 20, "clips")
    assert await done(clip) == [False]
    with await budget.admit(10, "pictures"):
        pass
    held.release()
    assert await done(clip) == [True]
    (await clip).release()


@in_loop
async def test_a_tenant_at_its_share_holds_up_nobody_who_holds_more() -> None:
    budget = Budget(100, tenants=2)
    held = [await budget.admit(20, "less"), await budget.admit(30, "more"), await budget.admit(50, "others")]
    beyond, within = asking(budget, 40, "less"), asking(budget, 10, "more")
    await settle()
    held.pop().release()
    assert await done(beyond, within) == [False, True]
    for each in held:
        each.release()
    for task in (beyond, within):
        (await task).release()


@in_loop
async def test_nothing_is_kept_for_a_tenant_at_its_share() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(lines, "PASSED_OVER_SECONDS", 1e-9)
        budget = Budget(100, tenants=2)
        held, others = await budget.admit(50, "clips"), await budget.admit(45, "pictures")
        clip = asking(budget, 20, "clips")
        await settle()
        picture = asking(budget, 5, "pictures")
        assert await done(clip, picture) == [False, True]
        held.release()
        for each in (others, await picture, await clip):
            each.release()


@in_loop
async def test_what_grows_stays_within_the_tenants_share() -> None:
    budget = Budget(100, tenants=2)
    with await budget.admit(30, "a") as reserved:
        with pytest.raises(RequestError) as error:
            reserved.grow(21)
        assert error.value.status == 503
        reserved.grow(20)


@in_loop
async def test_items_have_what_is_kept_for_them() -> None:
    budget = Budget(100, kept_bytes=40)
    held = await budget.admit(60)
    waiting = asking(budget, 1)
    with await budget.reserve_item(40):
        second = asyncio.create_task(budget.reserve_item(10))
        assert await done(waiting, second) == [False, False]
    assert await done(waiting, second) == [False, True]
    held.release()
    assert await done(waiting) == [True]
    (await waiting).release()
    (await second).release()
    assert budget.statistics().reserved_bytes == 0


@in_loop
async def test_a_small_item_does_not_wait_for_a_large_ones_room() -> None:
    """Both have a worker each: a clip that waits for memory must not hold up a picture (R17)."""
    budget = Budget(100, kept_bytes=100)
    running = await budget.reserve_item(60)
    large = asyncio.create_task(budget.reserve_item(60))
    small = asyncio.create_task(budget.reserve_item(10))
    assert await done(large, small) == [False, True]
    (await small).release()
    running.release()
    assert await done(large) == [True]
    (await large).release()


@in_loop
async def test_who_gives_up_holds_nobody_up() -> None:
    budget = Budget(100)
    held = await budget.admit(80)
    large, small = asking(budget, 50), asking(budget, 10)
    await settle()
    large.cancel()
    assert await done(large, small) == [True, True]
    (await small).release()
    last = asking(budget, 30)
    await settle()
    held.release()
    last.cancel()  # in the turn of the loop in which its turn has come
    with pytest.raises(asyncio.CancelledError):
        await last
    assert budget.statistics().reserved_bytes == 0


Turn = tuple[str, str, int]
turns = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["admit", "item", "release", "cancel"]),
        strategies.sampled_from("abc"),
        strategies.integers(0, 40),
    )
)


@given(turns=turns, kept_bytes=strategies.integers(0, 50), tenants=strategies.integers(1, 4))
@in_loop
async def test_it_never_holds_more_than_its_limits(turns: list[Turn], kept_bytes: int, tenants: int) -> None:
    budget = Budget(100, kept_bytes=kept_bytes, tenants=tenants)
    share_bytes = 100 - kept_bytes if tenants == 1 else (100 - kept_bytes) // 2
    asked: list[asyncio.Task[Reservation]] = []
    for kind, tenant, number in turns:
        if kind == "admit":
            asked.append(asking(budget, number, tenant))
        elif kind == "item":
            asked.append(asyncio.create_task(budget.reserve_item(number)))
        elif asked:
            task = asked.pop(number % len(asked))
            if kind == "release" and task.done() and task.exception() is None:
                task.result().release()
            else:
                task.cancel()
                with suppress(asyncio.CancelledError, RequestError):
                    (await task).release()
        await asyncio.sleep(0)
        assert budget._share.total_held <= 100 - kept_bytes
        assert all(budget._share.held(tenant) <= share_bytes for tenant in "abc")
        assert budget.statistics().reserved_bytes <= 100
    for _ in range(len(asked) + 1):
        for task in [task for task in asked if task.done()]:
            asked.remove(task)
            if task.exception() is None:
                task.result().release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not asked, "whoever waits is served once the others have gone"
    assert budget.statistics().reserved_bytes == budget.statistics().waiting == 0
