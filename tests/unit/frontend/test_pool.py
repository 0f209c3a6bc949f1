"""The worker pool: who asks first is served first, nobody is forgotten, and a condemned worker gets no more work."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from frontend_rig import FINGERPRINT, PlayedWorker, Rig, layout_of, rigged

from frontend_loop import TURNS, in_loop, settle
from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import RequestError
from mmplane.core.jobs import Materialised, Measure, Measured, WorkerReady
from mmplane.core.records import Clip, Recipe
from mmplane.items.crew import Worker
from mmplane.items.pace import SLOW_BYTES, Pace, pace_of
from mmplane.items.pool import Pool


def first(idle: list[Worker]) -> Worker:
    return idle[0]


def states(rig: Rig) -> dict[str, int]:
    return {state: count for state, count in rig.pool.statistics().states.items() if count}


async def measured(rig: Rig, width: int) -> int:
    """A job without slots: have a worker measure an image of this width."""
    await rig.store.recipes.layout(width, 1)
    return width


def clip(decoded: int, width: int = 640, height: int = 480) -> Recipe:
    """Eight frames are taken, of so many that are decoded."""
    taken = Clip(width, height, 3000, 25.0, (*range(7), 2999), runs=((0, decoded),))
    return Recipe("video", layout_of(1), clip=taken)


def test_pace_is_what_has_to_be_decoded_and_not_what_is_kept() -> None:
    assert pace_of(clip(20)) is Pace.QUICK
    assert pace_of(clip(2000)) is Pace.SLOW
    assert pace_of(clip(2000, 64, 48)) is Pace.QUICK
    assert pace_of(Recipe("image", layout_of(1), decoded_bytes=SLOW_BYTES)) is Pace.QUICK
    assert pace_of(Recipe("image", layout_of(1), decoded_bytes=SLOW_BYTES + 1)) is Pace.SLOW
    assert pace_of(Recipe("audio", layout_of(1), samples=480_000, decoded_bytes=480_000 * 16)) is Pace.QUICK


# Who is there.


@in_loop
async def test_a_worker_is_idle_once_it_says_so() -> None:
    async with rigged() as rig:
        assert not rig.pool.any_ready
        worker = PlayedWorker(rig, 1, 1)
        rig.peers.append(worker)
        await settle()
        assert (states(rig), rig.pool.any_ready) == ({"starting": 1}, False)
        worker.say(WorkerReady(FINGERPRINT))
        await settle()
        assert (states(rig), rig.pool.any_ready) == ({"idle": 1}, True)


@in_loop
async def test_a_worker_that_comes_wakes_who_waits() -> None:
    async with rigged(cheap=False) as rig:
        task = asyncio.create_task(measured(rig, 1))
        await settle()
        assert rig.pool.statistics().waiting == 1
        worker = await rig.worker()
        await worker.measure_one(layout_of(1))
        assert await task == 1
        assert rig.pool.statistics().waiting == 0


@in_loop
async def test_its_death_is_told_to_the_arena_whether_it_is_known_or_not() -> None:
    gone: list[Process] = []
    pool = Pool(
        fingerprint=FINGERPRINT,
        workers=1,
        item_seconds=1,
        waiting_max=1,
        tell_supervisor=lambda _: None,
        gone=gone.append,
    )
    pool.remove(7, 9)
    assert gone == [Process("worker", 7, 9)]


@in_loop
async def test_a_late_death_notice_does_not_take_the_successor() -> None:
    async with rigged() as rig:
        old = await rig.worker(1, incarnation=1)
        old.close()
        new = await rig.worker(1, incarnation=2)
        rig.pool.remove(1, 1)
        task = rig.asking("cat")
        await new.serve_one()
        await rig.release(task)


# Who is served.


@in_loop
async def test_first_come_first_served() -> None:
    async with rigged(cheap=False) as rig:
        tasks = []
        for width in range(1, 9):
            tasks.append(asyncio.create_task(measured(rig, width)))
            await settle()
        worker = await rig.worker()
        served = []
        for _ in tasks:
            job = await worker.hear()
            served.append(job.width)
            worker.say(Measured(job.job_id, layout_of(1)))
        assert served == list(range(1, 9))
        await asyncio.gather(*tasks)


@in_loop
async def test_a_newcomer_never_overtakes_who_waits() -> None:
    """Whenever it comes: also in the turn in which the worker has become idle."""
    for turns in range(TURNS // 2):
        async with rigged(cheap=False) as rig:
            worker = await rig.worker()
            tasks = [asyncio.create_task(measured(rig, width)) for width in (1, 2)]
            job = await worker.hear()
            worker.say(Measured(job.job_id, layout_of(1)))
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(measured(rig, 3)))
            served = []
            for _ in range(2):
                job = await worker.hear()
                served.append(job.width)
                worker.say(Measured(job.job_id, layout_of(1)))
            assert served == [2, 3], f"it came {turns} turns after the answer"
            await asyncio.gather(*tasks)


@in_loop
async def test_who_goes_away_takes_nobodys_turn_along() -> None:
    """Whenever it goes: also in the turn in which it was given the worker."""
    for turns in range(TURNS // 2):
        async with rigged(cheap=False) as rig:
            worker = await rig.worker()
            tasks = [asyncio.create_task(measured(rig, width)) for width in (1, 2, 3)]
            job = await worker.hear()
            worker.say(Measured(job.job_id, layout_of(1)))
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[1].cancel()
            await settle()
            for job in await worker.hear_all():
                worker.say(Measured(job.job_id, layout_of(1)))
            await settle()
            for job in await worker.hear_all():
                worker.say(Measured(job.job_id, layout_of(1)))
            await settle()
            assert tasks[2].done(), f"a worker is idle and nobody is told, when it goes {turns} turns after the answer"
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)


@in_loop
async def test_who_is_given_a_dying_worker_is_not_to_blame() -> None:
    """It is idle, given to who waits, and dead, in whichever turns: that is a 503, or the successor's work."""
    for turns in range(8):
        async with rigged() as rig:
            worker = await rig.worker()
            first, second = rig.asking("cat"), rig.asking("dog")
            worker.done(await worker.hear())
            for _ in range(turns):
                await asyncio.sleep(0)
            worker.die()
            await settle()
            successor = await rig.worker(1, incarnation=2)
            for job in await successor.hear_all():
                successor.done(job)
            await settle()
            for task in (first, second):
                assert task.done(), f"it died {turns} turns after its answer"
                if task.exception() is None:
                    await rig.release(task)
                    continue
                with pytest.raises(RequestError) as lost:
                    await task
                assert lost.value.status == 503, f"it died {turns} turns after its answer"


@in_loop
async def test_who_waits_in_vain_leaves_the_queue() -> None:
    async with rigged(cheap=False, waiting_max=1) as rig:
        task = asyncio.create_task(measured(rig, 1))
        await settle()
        with pytest.raises(RequestError) as refused:
            await measured(rig, 2)
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
        task.cancel()
        await settle()
        assert rig.pool.statistics().waiting == 0
        task = asyncio.create_task(measured(rig, 3))
        worker = await rig.worker()
        await worker.measure_one(layout_of(1))
        await task


@in_loop
async def test_where_nobody_may_wait_an_idle_worker_is_given_out() -> None:
    """A23: with --queue-max 0 the server never got ready, and said nothing."""
    async with rigged(waiting_max=0, workers=1) as rig:
        worker = await rig.worker()
        cat, dog = rig.asking("cat"), rig.asking("dog")
        await worker.serve_one()
        with pytest.raises(RequestError) as refused:
            await dog
        assert refused.value.status == 503
        await rig.release(cat)


@in_loop
async def test_slow_items_leave_a_worker_to_quick_ones() -> None:
    """Hazard R17: a clip that takes ten seconds beside pictures."""
    async with rigged() as rig:
        workers = [await rig.worker(1), await rig.worker(2)]
        slow = [rig.asking(name, decoded_bytes=SLOW_BYTES + 1) for name in ("clip", "another clip")]
        await settle()
        assert (states(rig), rig.pool.statistics().waiting) == ({"busy": 1, "idle": 1}, 1)
        begun = {worker: jobs[0] for worker in workers if (jobs := await worker.hear_all())}
        ((busy, job),) = begun.items()
        (other,) = [worker for worker in workers if worker is not busy]
        for name in ("picture", "another picture"):
            picture = rig.asking(name)
            await other.serve_one()
            await rig.release(picture)
        busy.done(job)
        await settle()
        assert (states(rig), rig.pool.statistics().waiting) == ({"busy": 1, "idle": 1}, 0)
        (second,) = [(worker, jobs[0]) for worker in workers if (jobs := await worker.hear_all())]
        second[0].done(second[1])
        await rig.release(*slow)


@in_loop
async def test_a_slow_item_waits_for_the_last_workers_sibling() -> None:
    """While one of two is being replaced, the other is the last."""
    async with rigged() as rig:
        worker = await rig.worker(1)
        slow = rig.asking("clip", decoded_bytes=SLOW_BYTES + 1)
        assert await worker.hear_all() == []
        picture = rig.asking("picture")
        await worker.serve_one()
        await rig.release(picture)
        sibling = await rig.worker(2)
        for each in (worker, sibling):
            for job in await each.hear_all():
                each.done(job)
        await rig.release(slow)


@in_loop
async def test_one_worker_alone_takes_what_comes() -> None:
    async with rigged(workers=1) as rig:
        worker = await rig.worker()
        slow = rig.asking("clip", decoded_bytes=SLOW_BYTES + 1)
        await worker.serve_one()
        await rig.release(slow)


@in_loop
async def test_tenants_take_turns_at_a_worker() -> None:
    async with rigged(workers=1) as rig:
        many = [rig.asking(f"many {number}", tenant="many") for number in range(3)]
        one = rig.asking("one", tenant="one")
        await settle()
        worker = await rig.worker()
        order = [worker.media_of(await worker.serve_one()).decode() for _ in range(4)]
        assert order == ["many 0", "one", "many 1", "many 2"]
        await rig.release(one, *many)


@in_loop
async def test_clips_that_wait_take_no_pictures_place_in_the_queue() -> None:
    async with rigged(waiting_max=1) as rig:
        worker = await rig.worker(1)
        slow = rig.asking("clip", decoded_bytes=SLOW_BYTES + 1)
        await settle()
        picture = rig.asking("picture")
        await worker.serve_one()
        await rig.release(picture)
        with pytest.raises(RequestError) as refused:
            await rig.asking("another clip", decoded_bytes=SLOW_BYTES + 1)
        assert refused.value.status == 503
        sibling = await rig.worker(2)
        for each in (worker, sibling):
            for job in await each.hear_all():
                each.done(job)
        await rig.release(slow)


@in_loop
async def test_idle_workers_are_chosen_by_the_asker() -> None:
    async with rigged() as rig:
        for index in (1, 2):
            await rig.worker(index)
        seen: list[list[int]] = []

        def last(idle: list[Worker]) -> Worker:
            seen.append([worker.process.index for worker in idle])
            return idle[-1]

        taken = [await rig.pool.idle(last) for _ in range(2)]
        assert [worker.process.index for worker in taken] == [2, 1]
        assert seen == [[1, 2], [1]]
        assert states(rig) == {"busy": 2}


# What a worker says.


@in_loop
async def test_answers_that_nobody_asked_for_are_ignored() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        worker.say(Materialised(99, 0.0, 0.0, 0))
        task = rig.asking("cat")
        job = await worker.hear()
        worker.say(Materialised(job.job_id + 1, 9.0, 9.0, 9), Measured(job.job_id - 1, layout_of(1)))
        await settle()
        assert not task.done()
        worker.done(job)
        worker.done(job)
        assert [span.seconds for span in (await task).spans if span.stage == "decode"] == [0.001]
        await rig.release(task)
        assert states(rig) == {"idle": 1}


@in_loop
async def test_an_asker_who_goes_away_in_mid_job_leaves_the_worker_to_others() -> None:
    async with rigged(cheap=False) as rig:
        worker = await rig.worker()
        task = asyncio.create_task(measured(rig, 1))
        job = await worker.hear()
        task.cancel()
        await settle()
        other = asyncio.create_task(measured(rig, 2))
        worker.say(Measured(job.job_id, layout_of(77)))
        job = await worker.hear()
        worker.say(Measured(job.job_id, layout_of(2)))
        assert await other == 2
        assert await rig.store.recipes.layout(2, 1) == layout_of(2)


@in_loop
async def test_a_missed_deadline_condemns_once() -> None:
    async with rigged(cheap=False, item_seconds=0.05) as rig:
        worker = await rig.worker()
        with pytest.raises(RequestError) as late:
            await measured(rig, 1)
        assert (late.value.status, late.value.retry_after_s) == (503, 1)
        assert (states(rig), rig.pool.any_ready, rig.told) == ({"condemned": 1}, False, [Replace(1, 1)])
        assert rig.pool.statistics().condemned == 1
        job = await worker.hear()
        assert isinstance(job, Measure)
        worker.say(Measured(job.job_id, layout_of(1)))
        await settle()
        assert states(rig) == {"condemned": 1}, "it was given up; the supervisor will replace it"
        waiting = asyncio.create_task(measured(rig, 2))
        assert await worker.hear_all() == []
        waiting.cancel()


@in_loop
async def test_a_worker_that_hung_up_fails_the_next_job_at_once() -> None:
    async with rigged() as rig:
        worker = await rig.worker()
        worker.close()
        await settle()
        task = rig.asking("cat")
        await settle()
        assert task.done()
        with pytest.raises(RequestError) as lost:
            await task
        assert lost.value.status == 503
        rig.pool.remove(1, 1)


@in_loop
async def test_every_job_has_a_number_of_its_own() -> None:
    async with rigged() as rig:
        workers = [await rig.worker(index) for index in (1, 2)]
        numbers = []
        for round_ in range(3):
            tasks = [rig.asking(f"{round_} {number}") for number in range(2)]
            numbers += [(await worker.serve_one()).job_id for worker in workers]
            await rig.release(*tasks)
        assert len(set(numbers)) == 6
        assert rig.pool.statistics().jobs == 6
