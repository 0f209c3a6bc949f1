"""A test must be able to fail: each mutant breaks one rule of the front end on purpose, and its test must notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import frontend_rig
import msgspec
import pytest
import test_group
import test_pool
import test_room
import test_store

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.errors import RequestError, overloaded
from mmplane.core.plan import Attached, Failed, FromLeader, Submit
from mmplane.core.records import Ask, Recipe, Slot
from mmplane.frontend.send.group import Generation, Group
from mmplane.items.crew import Crew, Where, Worker, WorkerState
from mmplane.items.pace import Pace
from mmplane.items.pool import Choose, Pool
from mmplane.items.recipes import Recipes
from mmplane.items.store import Asset, Flight, ItemStore

# The store.


class LeasesATurnAfterItPublishes(ItemStore):
    async def _fly(self, key: bytes, media: bytes, recipe: Recipe, flight: Flight, *, probe: bool) -> None:
        made, _ = await self._materialise(key, media, recipe, flight, Where.HERE)
        item = made.item
        self._arena.publish(key, item)
        await asyncio.sleep(0)
        for landing, holder, tag in flight.present():
            self._arena.lease(item.slot, holder, tag)
            landing.set_result(made)
        del self._flights[key]


class WithoutTenant(Recipes):
    def key(self, ask: Ask, digest: bytes, *, tenant: str = "") -> bytes:
        return super().key(ask, digest)


class KeyWithoutTenant(ItemStore):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.recipes.__class__ = WithoutTenant


class EveryoneFliesAlone(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        self._flights = {}
        return await super().acquire(key, media, recipe, tag, **options)


class TheFirstAskerOwnsTheFlight(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        try:
            return await super().acquire(key, media, recipe, tag, **options)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise


class WhoGoesKeepsItsLease(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        try:
            return await super().acquire(key, media, recipe, tag, **options)
        except asyncio.CancelledError:
            if (item := self._arena.lookup(key)) is not None:
                self._arena.lease(item.slot, self._owner, tag)
            raise


class EveryoneHasTheMiss(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        asset = await super().acquire(key, media, recipe, tag, **options)
        return Asset(asset.item, False, asset.trace)


class ProbesAreItems(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        return await super().acquire(key, media, recipe, tag, **options | {"probe": False})


class CachesAnyway(ItemStore):
    async def acquire(self, key: bytes, media: bytes, recipe: Recipe, tag: int, **options: Any) -> Asset:
        self.cache = True
        return await super().acquire(key, media, recipe, tag, **options)


class SwallowsFailures(ItemStore):
    async def _materialise(self, key: bytes, media: bytes, recipe: Recipe, flight: Flight) -> Any:
        try:
            return await super()._materialise(key, media, recipe, flight)
        except RequestError as error:
            raise RequestError(500, "internal_error", "failed") from error


# What the store asks of the arena.


class FreesUnderAStoppedWriter(Arena):
    def discard(self, slot: Slot) -> bool:
        occupant = self._occupant(slot)
        occupant.writer = None
        return super().discard(slot)


class ForgetsToQuarantine(Arena):
    def discard(self, slot: Slot) -> bool:
        return False


class KeepsTheMedia(Arena):
    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        return False if process.role == "worker" else super().release(slot, process, tag)


class EvictsTheLeased(Arena):
    def lease(self, slot: Slot, process: Process, tag: int) -> None:
        if process.role == "ranks" or self._occupant(slot).key is None:
            super().lease(slot, process, tag)

    def release(self, slot: Slot, process: Process, tag: int) -> bool:
        return process.role != "frontend" and super().release(slot, process, tag)


# The pool.


class GivesWorkToTheCondemned(Pool):
    def _present(self, where: Where) -> list[Worker]:
        present = super()._present(where)
        for worker in present:
            if worker.state is WorkerState.CONDEMNED:
                worker.state = WorkerState.IDLE
        return present


class TakesAnyAnswer(Pool):
    def _receive(self, crew: Crew, record: Any) -> None:
        if hasattr(record, "job_id"):
            record = msgspec.structs.replace(record, job_id=crew.workers[0].job_id)
        super()._receive(crew, record)


class TellsTheArenaNothing(Pool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"gone": lambda _: None}))


class TellsTheSupervisorNothing(Pool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"tell_supervisor": lambda _: None}))


class WaitsWithoutLimit(Pool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"waiting_max": 1 << 30}))


class SlowOnesTakeTheLastWorker(Pool):
    def _spares_one(self) -> bool:
        return True


class SlowOnesNeverBeginAlone(Pool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"workers": 2}))


class TakesEveryItemForQuick(Pool):
    async def idle(
        self, choose: Choose, *, pace: Pace = Pace.QUICK, tenant: str = "", where: Where = Where.HERE
    ) -> Worker:
        return await super().idle(choose, tenant=tenant, where=where)


class KnowsNoTenants(Pool):
    async def idle(
        self, choose: Choose, *, pace: Pace = Pace.QUICK, tenant: str = "", where: Where = Where.HERE
    ) -> Worker:
        return await super().idle(choose, pace=pace, where=where)


class NeverHearsThatRoomCame(Pool):
    def room_came(self) -> None:
        pass


class CountsAllWhoWaitTogether(Pool):
    async def idle(
        self, choose: Choose, *, pace: Pace = Pace.QUICK, tenant: str = "", where: Where = Where.HERE
    ) -> Worker:
        if self.statistics().waiting >= 1:
            raise overloaded("too many items are waiting for a worker")
        return await super().idle(choose, pace=pace, tenant=tenant, where=where)


# The group.


class ReleasesOnAbort(Group):
    def abort(self, generation: Generation) -> None:
        super().abort(generation)
        self._release(generation)


class NeverReleasesWhatFailed(Group):
    def _receive(self, record: FromLeader) -> None:
        if isinstance(record, Failed) and (generation := self._generations.get(record.request_id)):
            generation.slots = []
        super()._receive(record)


class ForgetsThePromptsSlot(Group):
    def submit(self, submit: Submit) -> Generation:
        generation = super().submit(submit)
        generation.slots = [item.slot for item in submit.items]
        return generation


class AbortsEveryTime(Group):
    def abort(self, generation: Generation) -> None:
        generation.aborted = False
        super().abort(generation)


class ForgetsTheAbortedAtOnce(Group):
    def abort(self, generation: Generation) -> None:
        super().abort(generation)
        self._generations.pop(generation.request_id, None)


class TakesAnyEpoch(Group):
    def _receive(self, record: FromLeader) -> None:
        super()._receive(Attached(self._epoch) if isinstance(record, Attached) else record)


class LeavesTheDeadsRequestsWaiting(Group):
    def gone(self, incarnation: int) -> None:
        self._generations.clear()
        super().gone(incarnation)


class TakesTheSuccessorForTheDead(Group):
    def gone(self, incarnation: int) -> None:
        super().gone(self._process.incarnation)


Killer = Callable[..., None]
MUTANTS: dict[type, tuple[str, Killer, tuple[Any, ...]]] = {
    LeasesATurnAfterItPublishes: ("ItemStore", test_store.test_an_item_is_leased_before_anyone_can_evict_it, ()),
    KeyWithoutTenant: ("ItemStore", test_store.test_another_tenant_has_another_key, ()),
    EveryoneFliesAlone: ("ItemStore", test_store.test_sixteen_ask_at_once_and_one_job_serves_them, ()),
    TheFirstAskerOwnsTheFlight: ("ItemStore", test_store.test_all_askers_go_and_the_item_is_there_for_the_next, ()),
    WhoGoesKeepsItsLease: ("ItemStore", test_store.test_an_asker_may_go_at_any_turn, (True,)),
    EveryoneHasTheMiss: ("ItemStore", test_store.test_sixteen_ask_at_once_and_one_job_serves_them, ()),
    ProbesAreItems: ("ItemStore", test_store.test_a_probe_that_nobody_waits_for_leaves_nothing, ()),
    CachesAnyway: ("ItemStore", test_store.test_all_askers_go_and_without_a_cache_its_bytes_are_free, ()),
    SwallowsFailures: (
        "ItemStore",
        test_store.test_media_that_cannot_be_decoded_fail_for_all_who_ask_and_leave_nothing,
        (),
    ),
    FreesUnderAStoppedWriter: ("Arena", test_store.test_no_later_item_lies_where_a_stopped_worker_may_write, ()),
    ForgetsToQuarantine: (
        "Arena",
        test_store.test_a_worker_that_misses_its_deadline_keeps_its_bytes_until_it_is_reaped,
        (),
    ),
    KeepsTheMedia: ("Arena", test_store.test_the_worker_finds_the_media_and_it_goes_with_the_job, ()),
    NeverHearsThatRoomCame: ("Pool", test_room.test_an_item_waits_for_room_before_it_has_a_worker, ()),
    EvictsTheLeased: ("Arena", test_store.test_items_in_use_outlive_any_pressure, ()),
    GivesWorkToTheCondemned: ("Pool", test_pool.test_a_missed_deadline_condemns_once, ()),
    TakesAnyAnswer: ("Pool", test_pool.test_answers_that_nobody_asked_for_are_ignored, ()),
    TellsTheArenaNothing: ("Pool", test_store.test_a_worker_that_dies_in_mid_write_takes_its_item_along, ()),
    TellsTheSupervisorNothing: ("Pool", test_pool.test_a_missed_deadline_condemns_once, ()),
    WaitsWithoutLimit: ("Pool", test_store.test_too_many_waiting_is_a_503, ()),
    SlowOnesTakeTheLastWorker: ("Pool", test_pool.test_a_slow_item_waits_for_the_last_workers_sibling, ()),
    SlowOnesNeverBeginAlone: ("Pool", test_pool.test_one_worker_alone_takes_what_comes, ()),
    TakesEveryItemForQuick: ("Pool", test_pool.test_slow_items_leave_a_worker_to_quick_ones, ()),
    KnowsNoTenants: ("Pool", test_pool.test_tenants_take_turns_at_a_worker, ()),
    CountsAllWhoWaitTogether: ("Pool", test_pool.test_clips_that_wait_take_no_pictures_place_in_the_queue, ()),
    ReleasesOnAbort: ("Group", test_group.test_an_abort_before_admission_waits_for_the_leaders_answer, ("admit",)),
    NeverReleasesWhatFailed: ("Group", test_group.test_leases_end_with_failure, ()),
    ForgetsThePromptsSlot: ("Group", test_group.test_a_prompt_in_a_slot_is_released_too, ("admit",)),
    AbortsEveryTime: ("Group", test_group.test_an_abort_before_admission_waits_for_the_leaders_answer, ("fail",)),
    ForgetsTheAbortedAtOnce: (
        "Group",
        test_group.test_an_abort_before_admission_waits_for_the_leaders_answer,
        ("admit",),
    ),
    TakesAnyEpoch: ("Group", test_group.test_no_request_before_the_leader_has_acknowledged_this_epoch, ()),
    LeavesTheDeadsRequestsWaiting: ("Group", test_group.test_leases_end_with_the_group, ()),
    TakesTheSuccessorForTheDead: ("Group", test_group.test_the_next_group_takes_over, ()),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_its_test_kills(mutant: type, monkeypatch: pytest.MonkeyPatch) -> None:
    part, killer, arguments = MUTANTS[mutant]
    killer(*arguments)
    monkeypatch.setattr(frontend_rig, part, mutant)
    # Whoever waits for good is a kill as well, and need not be waited for.
    monkeypatch.setattr("frontend_loop.HANG_S", 1.0)
    with pytest.raises((Exception, pytest.fail.Exception)):
        killer(*arguments)


def test_every_mutant_is_hunted() -> None:
    found = {kind for part in (ItemStore, Pool, Group) for kind in part.__subclasses__() if kind.__module__ == __name__}
    assert found <= set(MUTANTS)
