"""A full arena: who waits for room waits before it has a worker, not for long, and not behind too many."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from frontend_rig import PAGE_BYTES, PlayedWorker, Rig, layout_of, rigged

from frontend_loop import in_loop, settle
from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.errors import ArenaHasNoRoom, RequestError
from mmplane.core.records import Recipe
from mmplane.frontend.request.intake import Media
from mmplane.frontend.send.freight import SlotFreight
from mmplane.items.placement import Placement
from mmplane.items.store import Asset
from mmplane.waiting import lines
from mmplane.waiting import room as waiting_room


async def filled(rig: Rig) -> tuple[PlayedWorker, asyncio.Task[Asset]]:
    """A worker whose region of one page is taken by an item that somebody holds."""
    worker = await rig.worker()
    task = rig.asking("cat", PAGE_BYTES)
    await worker.serve_one()
    await task
    return worker, task


async def error_of(task: asyncio.Task[Asset]) -> RequestError:
    with pytest.raises(RequestError) as error:
        await task
    return error.value


@in_loop
async def test_an_item_waits_for_room_before_it_has_a_worker() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker, cat = await filled(rig)
        dog = rig.asking("dog", PAGE_BYTES)
        assert await worker.hear_all() == []
        assert (rig.pool.statistics().states["idle"], rig.pool.statistics().waiting) == (1, 1)
        await rig.release(cat)
        await worker.serve_one()
        await rig.release(dog)


@in_loop
async def test_room_in_another_region_will_do() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        _, cat = await filled(rig)
        dog = rig.asking("dog", PAGE_BYTES)
        await settle()
        other = await rig.worker(2)
        await other.serve_one()
        await rig.release(cat, dog)


@in_loop
async def test_a_hit_waits_for_nothing() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker, cat = await filled(rig)
        dog = rig.asking("dog", PAGE_BYTES)
        await settle()
        again = rig.asking("cat", PAGE_BYTES)
        assert (await again).hit
        await rig.release(cat, again)
        await worker.serve_one()
        await rig.release(dog)


@in_loop
async def test_a_wait_for_room_that_is_foreseen_is_refused_at_once() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker, cat = await filled(rig)
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(waiting_room, "WAITING_MIN", 2)
            waiting = [rig.asking(name, PAGE_BYTES) for name in ("dog", "bird")]
            await settle()
            refused = rig.asking("fish", PAGE_BYTES)
            await settle()
            assert refused.done(), "it waits behind more than have turns"
            assert (await error_of(refused)).status == 503
            other = rig.asking("another's", PAGE_BYTES, tenant="other")
            await settle()
            assert not other.done(), "another tenant's turn comes sooner"
        await rig.release(cat)
        for task in (waiting[0], other, waiting[1]):
            await worker.serve_one()
            await rig.release(task)


@in_loop
async def test_who_waits_in_vain_leaves_nothing() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        _, cat = await filled(rig)
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(lines, "STALLED_SECONDS", 0.0)
            refused = await error_of(rig.asking("dog", PAGE_BYTES))
        assert isinstance(refused, ArenaHasNoRoom)
        assert (refused.status, refused.retry_after_s) == (503, 1)
        assert rig.pool.statistics().waiting == 0
        await rig.release(cat)


@in_loop
async def test_who_waits_is_told_though_nothing_happens() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        _, cat = await filled(rig)
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(lines, "STALLED_SECONDS", 0.02)
            tasks = [rig.asking(name, PAGE_BYTES) for name in ("dog", "bird")]
            assert [(await error_of(task)).status for task in tasks] == [503, 503]
        await rig.release(cat)


@in_loop
async def test_who_has_another_way_does_not_wait() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        _, cat = await filled(rig)
        assert isinstance(await error_of(rig.asking("dog", PAGE_BYTES, patient=False)), ArenaHasNoRoom)
        await rig.release(cat)


@in_loop
async def test_what_never_fits_is_told_so_while_others_wait() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker, cat = await filled(rig)
        dog = rig.asking("dog", PAGE_BYTES)
        await settle()
        whale = rig.asking("whale", PAGE_BYTES + 1)
        await settle()
        assert whale.done(), "it waits for what never comes"
        assert (await error_of(whale)).status == 413
        await rig.release(cat)
        await worker.serve_one()
        await rig.release(dog)


@in_loop
async def test_items_that_never_fit_together() -> None:
    """Each would wait for the others to end, which are its own request's."""
    async with rigged(worker_bytes=PAGE_BYTES, workers=2) as rig:
        await rig.worker()
        recipe = Recipe("image", layout_of(PAGE_BYTES))
        media = [Media(name, name, recipe) for name in (b"cat", b"dog", b"bird")]
        with pytest.raises(ArenaHasNoRoom) as refused:
            await asyncio.wait_for(SlotFreight(rig.store).load(media, 1, probe=False), 60.0)
        assert refused.value.status == 413


@in_loop
async def test_a_group_that_ends_makes_room() -> None:
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker, cat = await filled(rig)
        leader = await rig.leader()
        rig.group.submit(rig.submit(await cat))
        await rig.release(cat)
        dog = rig.asking("dog", PAGE_BYTES)
        assert await worker.hear_all() == []
        leader.die()
        await worker.serve_one()
        await rig.release(dog)


def test_free_bytes_in_pieces_are_no_room() -> None:
    """The first worker's region has more free bytes, but no two pages beside each other that may be had."""
    arena = Arena([PAGE_BYTES, 5 * PAGE_BYTES, 2 * PAGE_BYTES])
    first, second = (Process("worker", index, 1) for index in (1, 2))
    pages = [arena.reserve(1, PAGE_BYTES, first) for _ in range(5)]
    for page in pages[::2]:
        arena.abandon(page, first)
    placement = Placement(
        arena, 2 * PAGE_BYTES, regions=range(1, 3), tenant="", share_bytes=7 * PAGE_BYTES, patient=True
    )
    idle: list[Any] = [SimpleNamespace(process=first), SimpleNamespace(process=second)]
    assert placement.take(idle) is idle[1]


# A tenant's share of the arena.


@in_loop
async def test_a_tenants_items_in_use_leave_room_to_another() -> None:
    async with rigged(worker_bytes=PAGE_BYTES, workers=2, tenants=2) as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        greedy = [rig.asking(name, PAGE_BYTES, tenant="greedy") for name in ("cat", "dog")]
        await settle()
        assert rig.pool.statistics().states["busy"] == 1, "one of two regions is its share"
        other = rig.asking("bird", PAGE_BYTES, tenant="other")
        await settle()
        assert rig.pool.statistics().states["busy"] == 2
        await finish(rig, workers)
        await rig.release(other, greedy[0])
        await finish(rig, workers)
        await rig.release(greedy[1])


@in_loop
async def test_hits_count_as_well() -> None:
    async with rigged(worker_bytes=PAGE_BYTES, workers=2, tenants=2) as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        for name in ("cat", "dog"):
            task = rig.asking(name, PAGE_BYTES, tenant="greedy")
            await settle()
            await finish(rig, workers)
            await rig.release(task)
        cat, again = (rig.asking("cat", PAGE_BYTES, tenant="greedy") for _ in range(2))
        assert (await cat).hit
        assert (await again).hit, "what is in use already takes no more room"
        assert (await error_of(rig.asking("dog", PAGE_BYTES, tenant="greedy"))).status == 503
        await rig.release(cat, again)


@in_loop
async def test_what_is_more_than_a_tenants_share_is_refused_for_good() -> None:
    async with rigged(worker_bytes=PAGE_BYTES, workers=1, tenants=2) as rig:
        await rig.worker()
        assert (await error_of(rig.asking("cat", PAGE_BYTES, tenant="greedy"))).status == 413


async def finish(rig: Rig, workers: list[PlayedWorker]) -> None:
    """The workers do what they have been asked to do."""
    await settle()
    for worker in workers:
        for job in await worker.hear_all():
            worker.done(job)
    await settle()
