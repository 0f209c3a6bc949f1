"""The store: each item is made once for all who ask, and whatever happens on the way, every byte comes back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from frontend_rig import FINGERPRINT, FRONTEND, IMAGE, PAGE_BYTES, VIDEO, PlayedWorker, Rig, layout_of, rigged

from frontend_loop import HANG_S, TURNS, in_loop, settle
from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import RequestError, bad_media
from mmplane.core.jobs import Examine, Examined, Materialise, Measure, WorkerReady
from mmplane.core.keys import media_digest
from mmplane.core.records import Ask, Clip, Layout, Recipe
from mmplane.items import recipes, shelf
from mmplane.items.store import Asset
from mmplane.waiting import lines


async def error_of(task: asyncio.Task[Asset] | asyncio.Task[Recipe]) -> RequestError:
    with pytest.raises(RequestError) as error:
        await task
    return error.value


async def made(rig: Rig, name: str, length_bytes: int = 100) -> None:
    """Have an item made and let it go again."""
    task = rig.asking(name, length_bytes)
    worker = next(peer for peer in rig.peers if peer.process.role == "worker")
    await worker.serve_one()
    await rig.release(task)


# Once (invariant 1).


@in_loop
async def test_a_miss_then_hits() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        first = rig.asking("cat")
        job = await worker.serve_one()
        asset = await first
        assert not asset.hit
        assert (asset.item.slot, asset.item.tensors) == (job.out, layout_of(100).tensors)
        assert [span.seconds for span in asset.spans if span.stage == "decode"] == [0.001]
        second = rig.asking("cat")
        assert (await second).hit
        assert (await second).item == asset.item
        await rig.release(first, second)
        assert await worker.hear_all() == []
        assert (rig.store.materialisations, rig.store.bytes_written) == (1, 100)


@in_loop
async def test_sixteen_ask_at_once_and_one_job_serves_them() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [rig.asking("cat") for _ in range(16)]
        job = await worker.hear()
        assert await worker.hear_all() == []
        worker.done(job)
        assets = await asyncio.gather(*tasks)
        assert [asset.hit for asset in assets] == [False] + [True] * 15, "the first asker has the miss"
        assert len({asset.item for asset in assets}) == 1
        assert rig.arena.statistics().leases == 16
        await rig.release(*tasks)
        assert rig.store.materialisations == 1


@in_loop
async def test_a_request_that_holds_one_image_twice_has_one_miss() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [rig.asking("cat", tag=7) for _ in range(2)]
        await worker.serve_one()
        assert [(await task).hit for task in tasks] == [False, True]
        assert rig.arena.statistics().leases == 2
        await rig.release(*tasks)


@in_loop
async def test_different_items_are_made_side_by_side() -> None:
    async with rigged() as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        tasks = [rig.asking(name) for name in ("cat", "dog")]
        jobs = [await worker.hear() for worker in workers]
        for worker, job in reversed(list(zip(workers, jobs, strict=True))):
            worker.done(job)
        assert [(await task).hit for task in tasks] == [False, False]
        assert {job.out.region for job in jobs} == {1, 2}
        await rig.release(*tasks)


@in_loop
async def test_the_worker_finds_the_media_and_it_goes_with_the_job() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = rig.asking("a cat" * 100)
        job = await worker.hear()
        assert worker.media_of(job) == b"a cat" * 100
        assert rig.arena.statistics().regions[0].leased_bytes > 0
        worker.done(job)
        await rig.release(task)
        assert rig.arena.statistics().regions[0].free_bytes == rig.arena.statistics().regions[0].length_bytes


@in_loop
async def test_another_tenant_has_another_key() -> None:
    async with rigged() as rig:
        asks = (IMAGE, Ask("image", embedded=True))
        keys = {rig.store.recipes.key(ask, b"cat", tenant=tenant) for ask in asks for tenant in ("", "a", "b")}
        assert len(keys) == 6


# Askers who go away (hazard R14).


@in_loop
async def test_the_first_asker_goes_and_the_next_has_the_miss() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [rig.asking("cat") for _ in range(4)]
        job = await worker.hear()
        tasks[0].cancel()
        await settle()
        worker.done(job)
        assert [(await task).hit for task in tasks[1:]] == [False, True, True]
        assert rig.arena.statistics().leases == 3
        await rig.release(*tasks[1:])


@in_loop
async def test_all_askers_go_and_the_item_is_there_for_the_next() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [rig.asking("cat") for _ in range(4)]
        job = await worker.hear()
        for task in tasks:
            task.cancel()
        await settle()
        worker.done(job)
        await settle()
        rig.check_nothing_is_held()
        next_one = rig.asking("cat")
        assert (await next_one).hit
        await rig.release(next_one)


@in_loop
async def test_all_askers_go_and_without_a_cache_its_bytes_are_free() -> None:
    async with rigged(cache=False) as rig:
        worker = await rig.worker()
        task = rig.asking("cat")
        job = await worker.hear()
        task.cancel()
        await settle()
        worker.done(job)
        await settle()
        assert rig.arena.statistics().slots == 0


@in_loop
async def test_all_askers_go_before_it_fails() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = rig.asking("cat")
        job = await worker.hear()
        task.cancel()
        await settle()
        worker.failed(job, bad_media("no cat"))
        await settle()
        assert rig.arena.statistics().slots == 0


@pytest.mark.parametrize("cache", [True, False])
@in_loop
async def test_an_asker_may_go_at_any_turn(cache: bool) -> None:
    """Also in the turn between the worker's answer and its own: a lease given in vain comes back."""
    for turns in range(TURNS // 2):
        async with rigged(cache=cache) as rig:
            worker = await rig.worker()
            going, staying = rig.asking("cat"), rig.asking("cat")
            worker_task = asyncio.create_task(worker.serve_one())
            for _ in range(turns):
                await asyncio.sleep(0)
            going.cancel()
            await rig.release(staying)
            await worker_task
            with suppress(asyncio.CancelledError):
                await rig.release(going)


# What fails.


@in_loop
async def test_media_that_cannot_be_decoded_fail_for_all_who_ask_and_leave_nothing() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [rig.asking("no cat") for _ in range(3)]
        worker.failed(await worker.hear(), bad_media("the image cannot be decoded"))
        for task in tasks:
            error = await error_of(task)
            assert (error.status, error.message) == (400, "the image cannot be decoded")
        assert rig.arena.statistics().slots == 0
        assert rig.pool.statistics().states["idle"] == 1, "the worker is well"
        assert rig.store.materialisations == 0
        await made(rig, "no cat")  # it is tried again


@in_loop
async def test_a_worker_that_dies_in_mid_write_takes_its_item_along() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = rig.asking("cat")
        await worker.hear()
        worker.die()
        assert (await error_of(task)).status == 503
        assert rig.arena.statistics().slots == 0, "reaped: nobody can write these bytes any more"
        successor = await rig.worker(1, incarnation=2)
        again = rig.asking("cat")
        await successor.serve_one()
        await rig.release(again)


@in_loop
async def test_a_worker_that_misses_its_deadline_keeps_its_bytes_until_it_is_reaped() -> None:
    async with rigged(item_seconds=0.05) as rig:
        worker = await rig.worker()
        task = rig.asking("cat", 1000)
        job = await worker.hear()
        assert (await error_of(task)).status == 503
        assert rig.told == [Replace(1, 1)]
        total = rig.arena.statistics().total
        assert total.quarantined_bytes >= 1000
        assert total.leased_bytes > 0, "it may still read the media"
        worker.done(job)  # it was only slow
        await settle()
        assert rig.arena.statistics().total.quarantined_bytes == total.quarantined_bytes
        assert rig.pool.statistics().states["idle"] == 0, "nobody gets a condemned worker"
        worker.die()
        rig.check_nothing_is_held()


@in_loop
async def test_no_later_item_lies_where_a_stopped_worker_may_write() -> None:
    async with rigged(item_seconds=0.05, worker_bytes=2 * PAGE_BYTES) as rig:
        stopped = await rig.worker(1)
        task = rig.asking("cat", PAGE_BYTES)
        held = (await stopped.hear()).out
        await error_of(task)
        rig.pool._item_seconds = HANG_S
        successor = await rig.worker(1, incarnation=2)  # sooner than a supervisor would
        for number in range(5):
            later = rig.asking(f"dog {number}", PAGE_BYTES)
            job = await successor.serve_one()
            assert job.out.offset_bytes >= held.offset_bytes + held.length_bytes
            await rig.release(later)
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(lines, "STALLED_SECONDS", 0.02)
            assert (await error_of(rig.asking("bird", 2 * PAGE_BYTES))).status == 503
        stopped.die()


@in_loop
async def test_a_worker_that_answers_and_dies_in_one_turn() -> None:
    """Its answer is in the socket when the supervisor says that it is dead: whoever waits gets an answer."""
    for turns in range(6):
        async with rigged() as rig:
            worker = await rig.worker()
            task = rig.asking("cat")
            job = await worker.hear()
            worker.done(job)
            for _ in range(turns):
                await asyncio.sleep(0)
            worker.die()
            await settle()
            assert task.done(), f"nobody answers when it dies {turns} turns after its answer"
            if task.exception() is None:
                await rig.release(task)
            else:
                assert (await error_of(task)).status == 503


@in_loop
async def test_a_worker_that_fails_an_item_and_dies_in_one_turn() -> None:
    for turns in range(6):
        async with rigged() as rig:
            worker = await rig.worker()
            task = rig.asking("cat")
            worker.failed(await worker.hear(), bad_media("no cat"))
            for _ in range(turns):
                await asyncio.sleep(0)
            worker.die()
            await settle()
            assert task.done(), f"nobody answers when it dies {turns} turns after its answer"
            assert (await error_of(task)).status in (400, 503)


@in_loop
async def test_a_worker_that_hangs_up_is_waited_for_until_it_is_reaped() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = rig.asking("cat")
        await worker.hear()
        worker.close()
        await settle()
        assert not task.done()
        rig.pool.remove(1, 1)
        assert (await error_of(task)).status == 503


# Bytes (invariant 8).


@in_loop
async def test_an_item_that_never_fits_is_a_413_and_one_that_does_not_fit_now_a_503() -> None:
    async with rigged(worker_bytes=2 * PAGE_BYTES) as rig:
        worker = await rig.worker()
        assert (await error_of(rig.asking("whale", 2 * PAGE_BYTES + 1))).status == 413
        cat = rig.asking("cat", PAGE_BYTES + 1)
        await worker.serve_one()
        await cat
        full = await error_of(rig.asking("dog", PAGE_BYTES, patient=False))
        assert (full.status, full.retry_after_s) == (503, 1)
        await rig.release(cat)
        dog = rig.asking("dog", PAGE_BYTES)
        await worker.serve_one()
        await rig.release(dog)
        assert rig.arena.statistics().evictions == 1


@in_loop
async def test_media_that_do_not_fit_give_the_items_slot_back() -> None:
    async with rigged(front_bytes=PAGE_BYTES) as rig:
        worker = await rig.worker(1)
        assert (await error_of(rig.asking("w" * (PAGE_BYTES + 1)))).status == 413
        first = rig.asking("c" * PAGE_BYTES)
        job = await worker.hear()
        await rig.worker(2)
        assert (await error_of(rig.asking("d"))).status == 503
        worker.done(job)
        await rig.release(first)


@in_loop
async def test_regions_fill_evenly() -> None:
    async with rigged() as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        regions = []
        for number in range(4):
            task = rig.asking(f"item {number}", PAGE_BYTES)
            regions += [job.out.region for job in await served(workers)]
            await rig.release(task)
        assert sorted(regions) == [1, 1, 2, 2]


async def served(workers: list[PlayedWorker]) -> list[Materialise]:
    """Every job that there is, done."""
    jobs = []
    for worker in workers:
        for job in await worker.hear_all():
            worker.done(job)
            jobs.append(job)
    return jobs


@pytest.mark.parametrize("leased", [1, 2])
@in_loop
async def test_a_region_where_something_may_be_evicted_is_taken_before_one_that_is_full(leased: int) -> None:
    """In the steady state no region has a free byte: what counts is what may be evicted."""
    async with rigged(worker_bytes=2 * PAGE_BYTES) as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        tasks = [rig.asking(name, 2 * PAGE_BYTES) for name in ("cat", "dog")]
        assert [job.out.region for job in await served(workers)] == [1, 2]
        await rig.release(tasks.pop(2 - leased))
        bird = rig.asking("bird", 2 * PAGE_BYTES)
        await served(workers)
        await rig.release(bird, *tasks)


@in_loop
async def test_an_item_is_leased_before_anyone_can_evict_it() -> None:
    """Who waits for the worker reserves in the very turn in which the item is finished."""
    async with rigged(worker_bytes=PAGE_BYTES) as rig:
        worker = await rig.worker()
        cat, dog = (rig.asking(name, PAGE_BYTES) for name in ("cat", "dog"))
        await worker.serve_one()
        await settle()
        assert not (await cat).hit
        assert await worker.hear_all() == []
        await rig.release(cat)
        await worker.serve_one()
        await rig.release(dog)


@in_loop
async def test_items_in_use_outlive_any_pressure() -> None:
    async with rigged(worker_bytes=4 * PAGE_BYTES) as rig:
        worker = await rig.worker()
        kept = rig.asking("kept", PAGE_BYTES)
        await worker.serve_one()
        slot = (await kept).item.slot
        for number in range(20):
            task = rig.asking(f"item {number}", PAGE_BYTES)
            job = await worker.serve_one()
            assert job.out.offset_bytes != slot.offset_bytes
            await rig.release(task)
        again = rig.asking("kept", PAGE_BYTES)
        assert (await again).hit
        await rig.release(kept, again)


@in_loop
async def test_too_many_waiting_is_a_503() -> None:
    async with rigged(waiting_max=2) as rig:
        tasks = [rig.asking(name) for name in ("cat", "dog")]
        await settle()
        error = await error_of(rig.asking("bird"))
        assert (error.status, error.retry_after_s) == (503, 1)
        same = rig.asking("cat")  # who shares an item takes no place in the queue
        worker = await rig.worker()
        for _ in tasks:
            await worker.serve_one()
        await rig.release(*tasks, same)


# Without a cache, and probes.


@in_loop
async def test_without_a_cache_every_request_is_a_miss_unless_they_meet() -> None:
    async with rigged(cache=False) as rig:
        worker = await rig.worker()
        for _ in range(2):
            together = [rig.asking("cat") for _ in range(2)]
            await worker.serve_one()
            assert [(await task).hit for task in together] == [False, True]
            await rig.release(together[0])
            assert rig.arena.statistics().slots == 1, "the other still reads it"
            await rig.release(together[1])
            assert rig.arena.statistics().slots == 0
        assert rig.store.materialisations == 2


@in_loop
async def test_a_probe_is_made_anew_and_counts_nowhere() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        await made(rig, "cat")
        before = rig.arena.statistics()
        probe = rig.asking("cat", probe=True)
        job = await worker.serve_one()
        assert (await probe).item.slot == job.out
        await rig.release(probe)
        assert rig.arena.statistics() == before
        assert rig.store.materialisations == 1


@in_loop
async def test_a_probe_that_nobody_waits_for_leaves_nothing() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        probe = rig.asking("cat", probe=True)
        job = await worker.hear()
        probe.cancel()
        await settle()
        worker.done(job)
        await settle()
        assert rig.arena.statistics().slots == 0


# Layouts.

CAT = (30, 20)


@in_loop
async def test_a_cheap_layout_needs_no_worker() -> None:
    async with rigged() as rig:
        assert await rig.store.recipes.layout(*CAT) == layout_of(600)
        with pytest.raises(RequestError) as error:
            await rig.store.recipes.layout(2000, 2000)
        assert error.value.status == 400


@in_loop
async def test_a_dear_layout_is_measured_once_for_each_size() -> None:
    async with rigged(cheap=False) as rig:
        worker = await rig.worker()
        task = asyncio.create_task(rig.store.recipes.layout(*CAT))
        job = await worker.hear()
        assert isinstance(job, Measure)
        assert (job.width, job.height) == (30, 20)
        measured = Layout((), ((1, 2),), 3)
        worker.say(recipes.Measured(job.job_id, measured))
        assert await task == measured
        assert await rig.store.recipes.layout(30, 20) == measured
        assert await worker.hear_all() == []
        turned = asyncio.create_task(rig.store.recipes.layout(20, 30))
        await worker.measure_one(layout_of(1))
        assert await turned == layout_of(1)


@in_loop
async def test_a_size_that_the_model_cannot_take_is_its_clients_error() -> None:
    async with rigged(cheap=False) as rig:
        worker = await rig.worker()
        for _ in range(2):
            task = asyncio.create_task(rig.store.recipes.layout(*CAT))
            job = await worker.hear()
            worker.failed(job, bad_media("not this size"))
            with pytest.raises(RequestError, match="not this size"):
                await task
        assert rig.pool.statistics().states["idle"] == 1


def test_a_recipe_that_is_used_is_not_forgotten() -> None:
    """An item that is asked for again and again answers to its uuid, however many others come."""
    known: dict[bytes, int] = {}
    for number in range(1000):
        recipes._remember(known, b"%d" % number, number, 10)
        assert recipes._recall(known, b"0") == 0
    assert len(known) == 10
    assert recipes._recall(known, b"1") is None


@in_loop
async def test_sizes_are_forgotten_at_the_limit() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(recipes, "LAYOUTS_MAX", 2)
        async with rigged(cheap=False) as rig:
            worker = await rig.worker()
            measured = []
            for width in (1, 2, 3, 2, 1):
                task = asyncio.create_task(rig.store.recipes.layout(width, 1))
                await settle()
                for job in await worker.hear_all():
                    measured.append(job.width)
                    worker.say(recipes.Measured(job.job_id, layout_of(width)))
                assert await task == layout_of(width)
            assert measured == [1, 2, 3, 1]


# The front end's own bytes.


@in_loop
async def test_what_is_stored_belongs_to_its_reader() -> None:
    async with rigged() as rig:
        reader = Process("ranks", 0, 1)
        slot = rig.shelf.store(b"prompt", reader, 5)
        assert bytes(rig.media.view(slot.offset_bytes, slot.length_bytes)) == b"prompt"
        assert rig.arena.release(slot, reader, 5)
        slot = rig.shelf.store(memoryview(b"prompt"), reader, 6)
        rig.shelf.take_back(slot, reader, 6)
        slot = rig.shelf.store(b"prompt", reader, 7)
        assert rig.arena.reaped(reader) == (slot,)


@in_loop
async def test_what_cannot_be_stored_says_why() -> None:
    async with rigged(front_bytes=PAGE_BYTES) as rig:
        reader = Process("ranks", 0, 1)
        with pytest.raises(RequestError) as error:
            rig.shelf.store(bytes(PAGE_BYTES + 1), reader, 1)
        assert error.value.status == 413
        slot = rig.shelf.store(bytes(PAGE_BYTES), reader, 1)
        with pytest.raises(RequestError) as error:
            rig.shelf.store(b"x", reader, 2)
        assert error.value.status == 503
        rig.shelf.take_back(slot, reader, 1)


@in_loop
async def test_an_item_of_the_front_end_is_leased_to_the_front_end() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = rig.asking("cat", tag=9)
        await worker.serve_one()
        item = (await task).item
        assert not rig.arena.release(item.slot, FRONTEND, 9)


# Clips: a worker looks into them first.

CLIP = Clip(30, 20, 9, 3.0, (0, 4), (0.0, 4 / 3))
CLIP_RECIPE = Recipe("video", layout_of(100), CLIP)


def asks_about(rig: Rig, media: bytes = b"film", ask: Ask = VIDEO) -> asyncio.Task[Recipe]:
    return asyncio.create_task(rig.store.recipes.of(ask, rig.store.recipes.key(ask, media_digest(media)), media))


@in_loop
async def test_a_worker_looks_into_a_clip_once_however_many_ask() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        tasks = [asks_about(rig) for _ in range(4)]
        job = await worker.hear()
        assert isinstance(job, Examine)
        assert job.ask == VIDEO
        assert worker.media_of(job) == b"film"
        worker.say(Examined(job.job_id, CLIP_RECIPE))
        assert [await task for task in tasks] == [CLIP_RECIPE] * 4
        assert await asks_about(rig) == CLIP_RECIPE
        assert await worker.hear_all() == []
        assert rig.arena.statistics().slots == 0, "the encoded bytes are not kept"


@in_loop
async def test_a_clip_that_is_asked_for_otherwise_is_looked_into_again() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        for frames_max in (8, 4):
            ask = Ask("video", frames_max=frames_max)
            task = asks_about(rig, ask=ask)
            job = await worker.hear()
            assert job.ask == ask
            worker.say(Examined(job.job_id, CLIP_RECIPE))
            await task


@in_loop
async def test_a_clip_that_cannot_be_read_fails_for_all_and_is_tried_again() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        for _ in range(2):
            tasks = [asks_about(rig) for _ in range(2)]
            worker.failed(await worker.hear(), bad_media("no clip"))
            for task in tasks:
                assert (await error_of(task)).message == "no clip"
            assert rig.arena.statistics().slots == 0
        assert rig.pool.statistics().states["idle"] == 1


@in_loop
async def test_a_worker_that_dies_of_a_clip_leaves_nothing() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = asks_about(rig)
        await worker.hear()
        worker.die()
        assert (await error_of(task)).status == 503
        await settle()
        assert rig.arena.statistics().slots == 0


@pytest.mark.parametrize("works", [True, False])
@in_loop
async def test_all_who_asked_about_a_clip_may_go(works: bool) -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        task = asks_about(rig)
        job = await worker.hear()
        task.cancel()
        await settle()
        if works:
            worker.say(Examined(job.job_id, CLIP_RECIPE))
        else:
            worker.failed(job, bad_media("no clip"))
        await settle()
        assert rig.arena.statistics().slots == 0
        assert (rig.store.recipes.known(rig.store.recipes.key(VIDEO, media_digest(b"film"))) == CLIP_RECIPE) == works


@in_loop
async def test_the_item_is_of_the_recipes_modality() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        key = rig.store.recipes.key(VIDEO, media_digest(b"film"))
        task = asyncio.create_task(rig.store.acquire(key, b"film", CLIP_RECIPE, 7))
        job = await worker.serve_one()
        assert job.recipe == CLIP_RECIPE
        asset = await task
        assert asset.item.modality == "video"
        rig.store.release(asset.item, 7)


@in_loop
async def test_what_the_model_does_not_take_is_said_at_once() -> None:
    async with rigged() as rig:
        rig.store.recipes.check_taken(Ask("image"))
        with pytest.raises(RequestError) as refused:
            rig.store.recipes.check_taken(Ask("audio"))
        assert (refused.value.status, refused.value.code) == (422, "unsupported_by_model")
        with pytest.raises(RequestError, match="does not accept embeddings") as refused:
            rig.store.recipes.check_taken(Ask("image", embedded=True))
        assert (refused.value.status, refused.value.code) == (400, "unsupported_parameter")


# Names without bytes.


@in_loop
async def test_without_bytes_only_what_is_here_or_on_its_way_will_do() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        key, recipe = rig.store.recipes.key(IMAGE, media_digest(b"cat")), Recipe("image", layout_of(100))
        with pytest.raises(RequestError) as refused:
            await rig.store.acquire(key, None, recipe, 1)
        assert (refused.value.status, refused.value.code) == (404, "media_not_held")
        first = rig.asking("cat", tag=2)
        job = await worker.hear()
        waiting = asyncio.create_task(rig.store.acquire(key, None, recipe, 3), name="3")
        await settle()
        worker.done(job)
        assert [(await first).hit, (await waiting).hit] == [False, True]
        held = asyncio.create_task(rig.store.acquire(key, None, recipe, 4), name="4")
        assert (await held).hit
        await rig.release(first, waiting, held)


# Files that end workers, and memory outside of the arena.


@in_loop
async def test_a_file_that_ends_its_second_worker_is_refused_at_once() -> None:
    """Hazard R3: retries must not take one worker after the other down."""
    async with rigged(workers=3) as rig:
        statuses = []
        for index in (1, 2):
            worker = await rig.worker(index)
            task = rig.asking("poison")
            await worker.hear()
            worker.die()
            rig.peers.remove(worker)
            statuses.append((await error_of(task)).status)
        assert statuses == [503, 400]
        worker = await rig.worker(3)
        assert (await error_of(rig.asking("poison"))).status == 400
        assert await worker.hear_all() == []
        await made(rig, "good")


@in_loop
async def test_pixels_are_reserved_while_they_are_decoded() -> None:
    """Hazard R8: two large images with a worker each, of which only one fits at a time; the third is for small ones."""
    async with rigged(workers=3) as rig:
        held = await rig.budget.admit(2**29)
        workers = [await rig.worker(index) for index in (1, 2, 3)]
        tasks = [rig.asking(name, decoded_bytes=2**29 - number) for number, name in enumerate("ab")]
        await settle()
        jobs = [await worker.hear_all() for worker in workers]
        assert sum(map(len, jobs)) == 1, "the other waits with its worker"
        assert rig.budget.statistics().waiting == 1
        (worker,) = [worker for worker, job in zip(workers, jobs, strict=True) if job]
        worker.done(next(job for (job,) in filter(None, jobs)))
        await settle()
        (job,) = [job for each in workers for job in await each.hear_all()]
        next(each for each in workers if each.process.index == job.out.region).done(job)
        await rig.release(*tasks)
        held.release()


@in_loop
async def test_a_worker_that_dies_while_its_item_waits_for_memory() -> None:
    """That is not the item's doing, and leaves nothing."""
    async with rigged(workers=3) as rig:
        for number in (1, 2, 3):
            held = await rig.budget.admit(2**29)
            item = await rig.budget.reserve_item(2**29)
            worker = await rig.worker(number)
            task = rig.asking("cat", decoded_bytes=10)
            await settle()
            assert rig.budget.statistics().waiting == 1
            worker.die()
            rig.peers.remove(worker)
            item.release()
            assert (await error_of(task)).status == 503
            held.release()


@in_loop
async def test_long_media_is_copied_while_the_loop_goes_on() -> None:
    with pytest.MonkeyPatch.context() as patched:
        may, copy = threading.Event(), shelf.copy

        def late(out: memoryview, media: bytes) -> None:
            assert may.wait(HANG_S)
            copy(out, media)

        patched.setattr(shelf, "copy", late)
        patched.setattr(shelf, "LONG_BYTES", 4)
        async with rigged() as rig:
            workers = [await rig.worker(1), await rig.worker(2)]
            long, short = rig.asking("elephant"), rig.asking("cat")
            await settle()
            (served,) = [(worker, job) for worker in workers for job in await worker.hear_all()]
            assert served[0].media_of(served[1]) == b"cat"
            served[0].done(served[1])
            await rig.release(short)
            may.set()
            other = next(worker for worker in workers if worker is not served[0])
            job = await other.hear()
            assert other.media_of(job) == b"elephant"
            other.done(job)
            await rig.release(long)


@in_loop
async def test_a_worker_that_dies_while_its_media_is_copied() -> None:
    with pytest.MonkeyPatch.context() as patched:
        loop = asyncio.get_running_loop()
        patched.setattr(shelf, "LONG_BYTES", 4)
        async with rigged(workers=3) as rig:
            for number in (1, 2, 3):
                worker = await rig.worker(number)
                patched.setattr(shelf, "copy", lambda *_, worker=worker: loop.call_soon_threadsafe(worker.die))
                assert (await error_of(rig.asking("elephant"))).status == 503
                rig.peers.remove(worker)


@in_loop
async def test_pixels_that_never_fit_are_refused() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        assert (await error_of(rig.asking("a", decoded_bytes=2**29 + 1))).status == 413
        assert await worker.hear_all() == []
        await made(rig, "b")


# What nobody waits for, and errors of ours.


@in_loop
async def test_an_item_that_nobody_waits_for_any_more_takes_no_worker() -> None:
    """Its request's bytes have been given back, so its media must not stay in memory."""
    async with rigged() as rig:
        gone, stays = rig.asking("cat"), rig.asking("dog")
        await settle()
        gone.cancel()
        await settle()
        assert rig.pool.statistics().waiting == 1
        again = rig.asking("cat")
        worker = await rig.worker()
        await worker.serve_one()
        await worker.serve_one()
        await rig.release(stays, again)
        assert await worker.hear_all() == []


@in_loop
async def test_whoever_leaves_as_its_turn_comes_leaves_no_slot() -> None:
    """In whichever turn of the loop: it may have been given a worker and a slot, and not have heard of it."""
    for turns in range(TURNS):
        async with rigged() as rig:
            gone = rig.asking("cat")
            await settle()
            worker = PlayedWorker(rig, 1, 1)
            rig.peers.append(worker)
            worker.say(WorkerReady(FINGERPRINT))
            for _ in range(turns):
                await asyncio.sleep(0)
            gone.cancel()
            await settle()
            for job in await worker.hear_all():  # it had begun
                worker.done(job)
            await settle()
            assert rig.pool.statistics().states["idle"] == 1, turns
            rig.check_nothing_is_held()


@in_loop
async def test_a_look_that_nobody_waits_for_any_more_takes_no_worker() -> None:
    async with rigged() as rig:
        key = rig.store.recipes.key(VIDEO, media_digest(b"clip"))
        first, second = (asyncio.create_task(rig.store.recipes.of(VIDEO, key, b"clip")) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert rig.pool.statistics().waiting == 1, "another one waits for it"
        second.cancel()
        await settle()
        assert rig.pool.statistics().waiting == 0


@in_loop
async def test_a_newcomer_does_not_join_what_was_called_off() -> None:
    async with rigged() as rig:
        gone = rig.asking("cat")
        await settle()
        gone.cancel()
        await asyncio.sleep(0)
        newcomer = rig.asking("cat")  # in the turn of the loop in which the other one leaves
        worker = await rig.worker()
        await worker.serve_one()
        await rig.release(newcomer)


@pytest.mark.parametrize("breaks", ["thread", "publish"])
@in_loop
async def test_an_error_of_ours_leaves_no_slot_and_no_waiter(breaks: str, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("an internal error")

    async with rigged() as rig:
        worker = await rig.worker()
        with pytest.MonkeyPatch.context() as patch:
            if breaks == "thread":
                patch.setattr(shelf, "LONG_BYTES", 1)
                patch.setattr(shelf, "copy", fails)
            else:
                patch.setattr(rig.arena, "publish", fails)
            task = rig.asking("cat")
            await settle()
            for job in await worker.hear_all():
                worker.done(job)
            with pytest.raises(RequestError) as failed:
                await asyncio.wait_for(task, 60.0)
        assert failed.value.status == 500
        assert "an internal error" in caplog.text
