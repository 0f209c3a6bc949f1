"""Media machines as the store sees them: several jobs behind one porter, and a machine that is lost costs no item."""

from __future__ import annotations

import pytest
from frontend_rig import FINGERPRINT, PlayedWorker, Rig, rigged
from test_room import error_of
from test_store import CLIP_RECIPE, VIDEO, asks_about

from frontend_loop import in_loop, settle
from mmplane.core.errors import overloaded
from mmplane.core.jobs import Examined, JobDied, JobLost, MachineGone, Materialise, Materialised, WorkerReady
from mmplane.core.keys import media_digest
from mmplane.items.crew import Worker, most_idle
from mmplane.items.placement import Placement
from mmplane.items.poison import STRIKES
from mmplane.items.pool import Pool
from mmplane.items.store import ItemStore
from mutation import Mutant, check_it_is_killed

HERE, AWAY = 1, 2
"""One worker, and the porters after it."""


def quarantined_bytes(rig: Rig) -> int:
    return sum(region.quarantined_bytes for region in rig.arena.statistics().regions)


async def both(rig: Rig, lanes: int = 2) -> tuple[PlayedWorker, PlayedWorker]:
    return await rig.worker(HERE), await rig.porter(AWAY, lanes)


@in_loop
async def test_a_porter_takes_as_many_items_as_it_has_lanes_and_answers_in_any_order() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig, lanes=3)
        tasks = [rig.asking(f"{number}") for number in range(5)]
        jobs = await porter.hear_all()
        assert [porter.media_of(job) for job in jobs] == [b"0", b"1", b"2"]
        assert {job.out.region for job in jobs} == {AWAY}
        assert {job.life for job in jobs} == {1}
        for job in reversed(jobs):
            porter.done(job)
        for _ in range(2):
            await porter.serve_one()
        assert await here.hear_all() == [], "this machine's cores are kept while another has joined"
        await rig.release(*tasks)


@in_loop
async def test_items_are_spread_over_machines() -> None:
    async with rigged(workers=1, porters=2) as rig:
        await rig.worker(HERE)
        porters = [await rig.porter(AWAY + number, lanes=4) for number in range(2)]
        tasks = [rig.asking(f"{number}") for number in range(8)]
        for porter in porters:
            jobs = await porter.hear_all()
            assert len(jobs) == 4
            for job in jobs:
                porter.done(job)
        await rig.release(*tasks)


@in_loop
async def test_this_machine_works_while_no_other_has_joined() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here = await rig.worker(HERE)
        porter = PlayedWorker(rig, AWAY, 1)
        rig.peers.append(porter)
        task = rig.asking("cat")
        await here.serve_one()
        await rig.release(task)
        assert await porter.hear_all() == []


@in_loop
async def test_what_has_no_byte_form_stays_here_unless_all_are_busy() -> None:
    async with rigged(workers=1, porters=1, encoding="float32") as rig:
        here, porter = await both(rig)
        tasks = [rig.asking(f"{number}") for number in range(2)]
        await here.serve_one()
        await porter.serve_one()
        await rig.release(*tasks)


@in_loop
async def test_the_probe_stays_here() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        task = rig.asking("probe", probe=True)
        await here.serve_one()
        await rig.release(task)
        assert await porter.hear_all() == []


@in_loop
async def check_a_lost_machines_items_are_made_here() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        tasks = [rig.asking(f"{number}") for number in range(2)]
        assert len(await porter.hear_all()) == 2
        porter.say(MachineGone())
        for _ in tasks:
            (job,) = await here.hear_all()
            assert job.out.region == HERE
            here.done(job)
        await rig.release(*tasks)
        assert (rig.store.retries, rig.pool.statistics().lost, rig.pool.statistics().machines) == (2, 1, ())
        assert quarantined_bytes(rig) == 0
        rig.arena.check_integrity()


def test_a_lost_machines_items_are_made_here() -> None:
    check_a_lost_machines_items_are_made_here()


@in_loop
async def test_a_porter_that_is_killed_costs_no_item_either() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        task = rig.asking("cat")
        await porter.hear()
        porter.die()
        await here.serve_one()
        await rig.release(task)
        rig.arena.check_integrity()


@in_loop
async def check_a_machine_that_is_lost_as_an_items_turn_comes_keeps_no_slot() -> None:
    """The item has a lane and a slot, and has not run since when the porter reports that its machine is lost."""
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig, lanes=1)
        first, second = rig.asking("cat"), rig.asking("dog")
        job = await porter.hear()
        (crew,) = (crew for crew in rig.pool._crews.values() if crew.porter)
        free = rig.pool.free

        def free_and_lose(worker: Worker) -> None:
            free(worker)
            rig.pool.free = free  # type: ignore[method-assign]
            assert rig.arena.statistics().regions[AWAY].writing_bytes > 0, "the second item's turn has come"
            rig.pool._receive(crew, MachineGone())

        rig.pool.free = free_and_lose  # type: ignore[method-assign]
        porter.done(job)
        await here.serve_one()
        await rig.release(first, second)
        assert rig.pool.statistics().lost == 1
        assert rig.arena.statistics().regions[AWAY].writing_bytes == 0
        rig.arena.check_integrity()


def test_a_machine_that_is_lost_as_an_items_turn_comes_keeps_no_slot() -> None:
    check_a_machine_that_is_lost_as_an_items_turn_comes_keeps_no_slot()


@in_loop
async def test_an_item_that_the_machine_declines_is_made_here() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        task = rig.asking("cat")
        porter.say(JobLost((await porter.hear()).job_id))
        await here.serve_one()
        await rig.release(task)
        assert len(rig.pool.statistics().machines) == 1


@in_loop
async def check_a_lost_machine_is_no_strike() -> None:
    """However often it happens to one file."""
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        for number in range(STRIKES + 1):
            task = rig.asking("cat")
            await porter.hear()
            porter.say(MachineGone(), WorkerReady(FINGERPRINT, 2, number + 2))
            here.failed(await here.hear(), overloaded("not now"))
            assert (await error_of(task)).status == 503


def test_a_lost_machine_is_no_strike() -> None:
    check_a_lost_machine_is_no_strike()


@in_loop
async def check_a_remote_death_is_a_strike() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        for status in (503, 400):
            task = rig.asking("bomb")
            porter.say(JobDied((await porter.hear()).job_id))
            assert (await error_of(task)).status == status
        assert await here.hear_all() == [], "a file that ends a decoder is not tried on another"
        assert quarantined_bytes(rig) == 0
        assert (await error_of(rig.asking("bomb"))).status == 400


def test_a_remote_death_is_a_strike() -> None:
    check_a_remote_death_is_a_strike()


@in_loop
async def check_machines_look_into_clips_in_turns() -> None:
    async with rigged(workers=1, porters=2) as rig:
        await rig.worker(HERE)
        porters = [await rig.porter(AWAY + number, lanes=2) for number in range(2)]
        tasks = [asks_about(rig, b"film %d" % number) for number in range(2)]
        for porter in porters:
            (job,) = await porter.hear_all()
            assert (job.life, job.key) == (1, rig.store.recipes.key(VIDEO, media_digest(porter.media_of(job))))
            porter.say(Examined(job.job_id, CLIP_RECIPE))
        assert [await task for task in tasks] == [CLIP_RECIPE] * 2
        assert rig.arena.statistics().slots == 0


def test_machines_look_into_clips_in_turns() -> None:
    check_machines_look_into_clips_in_turns()


@in_loop
async def test_a_clip_whose_machine_is_lost_is_looked_into_here() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        task = asks_about(rig)
        await porter.hear()
        porter.say(MachineGone())
        here.say(Examined((await here.hear()).job_id, CLIP_RECIPE))
        assert await task == CLIP_RECIPE
        assert rig.store.recipes.retries == 1
        assert rig.arena.statistics().slots == 0


@in_loop
async def test_a_clip_that_ends_decoders_over_there_is_refused() -> None:
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig)
        for status in (503, 400):
            task = asks_about(rig)
            porter.say(JobDied((await porter.hear()).job_id))
            assert (await error_of(task)).status == status
        assert await here.hear_all() == []
        assert rig.arena.statistics().slots == 0


@in_loop
async def check_late_answers_of_an_earlier_life_change_nothing() -> None:
    """The machine is lost and another joins at once: what the first was asked is not the second's."""
    async with rigged(workers=1, porters=1) as rig:
        here, porter = await both(rig, lanes=1)
        first = rig.asking("cat")
        old: Materialise = await porter.hear()
        porter.say(MachineGone(), WorkerReady(FINGERPRINT, 1, 2))
        second = rig.asking("dog")
        new: Materialise = await porter.hear()
        porter.done(old)
        await settle()
        assert not second.done()
        assert (old.life, new.life) == (1, 2)
        porter.done(new)
        await here.serve_one()
        await rig.release(first, second)


def test_late_answers_of_an_earlier_life_change_nothing() -> None:
    check_late_answers_of_an_earlier_life_change_nothing()


@in_loop
async def test_a_deadline_that_is_missed_over_there_condemns_the_porter_and_quarantines_the_slot() -> None:
    async with rigged(workers=1, porters=1, item_seconds=0.01) as rig:
        pool = rig.pool
        here, porter = await both(rig)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mmplane.items.pool.AWAY_SECONDS", 0.0)
            task = rig.asking("cat", 4096)
            await porter.hear()
            assert (await error_of(task)).status == 503
        assert pool.statistics().condemned == 1
        assert quarantined_bytes(rig) == 4096
        porter.die()
        assert quarantined_bytes(rig) == 0
        assert await here.hear_all() == []


@in_loop
async def test_pixels_that_are_decoded_elsewhere_take_no_budget_here() -> None:
    async with rigged(workers=1, porters=1) as rig:
        _, porter = await both(rig)
        task = rig.asking("cat", decoded_bytes=1000)
        job = await porter.hear()
        assert rig.budget.statistics().reserved_bytes == 0
        porter.done(job)
        await rig.release(task)


@in_loop
async def test_lanes_are_told_apart_from_workers() -> None:
    async with rigged(workers=1, porters=1) as rig:
        _, porter = await both(rig, lanes=2)
        task = rig.asking("cat")
        job = await porter.hear()
        found = rig.pool.statistics()
        assert (found.states["idle"], found.lanes["busy"], found.lanes["idle"], found.places) == (1, 1, 1, 1)
        porter.done(job)
        await rig.release(task)


@in_loop
async def test_what_a_machine_has_done_is_counted_since_it_joined() -> None:
    async with rigged(workers=1, porters=2) as rig:
        _, porter = await both(rig, lanes=2)
        task = rig.asking("cat", 4096)
        job = await porter.hear()
        assert [(each.place, each.items) for each in rig.pool.statistics().machines] == [(1, 0)]
        porter.say(Materialised(job.job_id, 1.0, 2.0, 4096, sent_bytes=3))
        await rig.release(task)
        (found,) = rig.pool.statistics().machines
        assert (found.items, found.sent_bytes, found.received_bytes) == (1, 3, 4096)
        porter.say(MachineGone())
        porter.say(WorkerReady(FINGERPRINT, 3, 2, "again"))
        await settle()
        (found,) = rig.pool.statistics().machines
        assert (found.machine, found.lanes, found.items) == ("again", 3, 0)


MUTANTS = [
    Mutant(
        "a second try",
        ItemStore._materialise,
        "return await self._make(key, media, recipe, flight, Where.HERE)",
        "raise",
        check_a_lost_machines_items_are_made_here,
    ),
    Mutant(
        "a lost machine is no strike",
        ItemStore._fly,
        "isinstance(error, WorkerLost | DecoderDied)",
        "True",
        check_a_lost_machine_is_no_strike,
    ),
    Mutant(
        "a slot of a worker that died before its turn",
        Placement.take,
        "self.give_back()",
        "pass",
        check_a_machine_that_is_lost_as_an_items_turn_comes_keeps_no_slot,
    ),
    Mutant(
        "a death over there is a strike",
        ItemStore._fly,
        "WorkerLost | DecoderDied",
        "WorkerLost",
        check_a_remote_death_is_a_strike,
    ),
    Mutant(
        "one machine after the other",
        most_idle,
        "max(idle, key=lambda worker: lanes[worker.process.index])",
        "idle[0]",
        check_machines_look_into_clips_in_turns,
    ),
    Mutant(
        "whose answer it is",
        Pool._receive,
        "if each.job_id == record.job_id",
        "if True",
        check_late_answers_of_an_earlier_life_change_nothing,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
