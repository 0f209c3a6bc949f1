"""Mutants of members, deliveries, lanes, parcels and the cache: the simulation must notice each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import msgspec
import pytest
from mutant_hunt import killed_by
from rank_simulation import Simulation
from simulated_ports import LateParcels, TurnLane
from simulated_rank import Parts

from mmplane.core.errors import Failure
from mmplane.core.plan import CachePlan, Held, Plan, Submit
from mmplane.delivery.attempt import attempt
from mmplane.delivery.delayed_async import DelayedAsync, Pending
from mmplane.delivery.delivery import Delivered, Delivery, Order, done
from mmplane.delivery.exchange import exchange
from mmplane.delivery.faults import strike
from mmplane.delivery.leader import Leader as LeaderDelivery
from mmplane.delivery.leader import lead, take
from mmplane.delivery.leader_async import LeaderAsync
from mmplane.delivery.leader_batch import LeaderBatch
from mmplane.delivery.names import DELIVERIES
from mmplane.delivery.rank_ports import RankPorts
from mmplane.ranks.plan.cache_table import CacheTable
from mmplane.ranks.plan.leader import Leader
from mmplane.ranks.plan.member import Member, Preparing
from mmplane.ranks.plan.request import Request
from mmplane.ranks.plan.step import Step

# Members.


class EvictsForItself(Member):
    def _remember(self, plan: Plan, step: Step) -> None:
        super()._remember(plan, step)
        if self._rank == 1 and len(self._cache) > 1:
            del self._cache[next(iter(self._cache))]


class KeepsWhatItLikes(Member):
    def _remember(self, plan: Plan, step: Step) -> None:
        for made in self._made.values():
            self._cache |= dict(list(made.items())[:1])
        super()._remember(plan, step)


class EvictsBeforeItKeeps(Member):
    def _remember(self, plan: Plan, step: Step) -> None:
        super()._remember(msgspec.structs.replace(plan, cache=CachePlan(evict=plan.cache.evict)), step)
        super()._remember(msgspec.structs.replace(plan, cache=CachePlan(keep=plan.cache.keep)), step)


class ForgetsWhatItReused(Member):
    """Cannot keep again what was evicted while its request was being prepared."""

    def advance(self) -> Held | None:
        held = super().advance()
        if held is not None and held.request_id in self._made:
            keys = {item.content_key for item in self._schedule.prepared[held.request_id].items}
            for key in keys & self._cache.keys():
                self._made[held.request_id].pop(key, None)
        return held


class DecodesWhatIsCached(Member):
    def _begin(self, submits: tuple[Submit, ...], reuse: tuple[tuple[int, int], ...]) -> None:
        super()._begin(submits, reuse if self._rank != 1 else ())


class KeepsItsFailureToItself(Member):
    def advance(self) -> Held | None:
        held = super().advance()
        return held and msgspec.structs.replace(
            held, failure=None, digests=(f"{held.rank}/{held.request_id}".encode(),)
        )


class WaitsForNoDigest(Member):
    def advance(self) -> Held | None:
        held = super().advance()
        for entry in self._preparing:
            if entry.encoding is not None:
                entry.future = done(Delivered(()))
        return held


class LeaksWhatFailed(Member):
    def _remember(self, plan: Plan, step: Step) -> None:
        super()._remember(plan, replace(step, drop_requests=()))


class IgnoresCancelledParcels(Member):
    def _cancel(self, plan: Plan) -> None:
        kept = tuple(cancel for cancel in plan.cancel if cancel.prepared)
        super()._cancel(msgspec.structs.replace(plan, cancel=kept))


class IgnoresCancelledWork(Member):
    def _cancel(self, plan: Plan) -> None:
        kept = tuple(cancel for cancel in plan.cancel if not cancel.prepared)
        super()._cancel(msgspec.structs.replace(plan, cancel=kept))


class CancelsParcelsOfThePrepared(Member):
    def _cancel(self, plan: Plan) -> None:
        wrong = tuple(msgspec.structs.replace(cancel, prepared=False) for cancel in plan.cancel)
        super()._cancel(msgspec.structs.replace(plan, cancel=wrong))


class FollowersKeepTheirParcels(Member):
    def _drop_parcel(self, request_id: int, *, relayed: bool) -> None:
        super()._drop_parcel(request_id, relayed=False)


class DropsParcelsThatItNeverGets(Member):
    def _drop_parcel(self, request_id: int, *, relayed: bool) -> None:
        self._parcels.drop(request_id)


class DropsParcelsTwice(Member):
    def _encoding(self, entry: Preparing) -> object:  # type: ignore[override]
        encoding = super()._encoding(entry)
        if entry.submit.parcel_bytes and entry.submit.relayed:
            self._drop_parcel(entry.submit.request_id, relayed=True)
        return encoding


class NeverDropsParcels(Member):
    def _drop_parcel(self, request_id: int, *, relayed: bool) -> None:
        pass


class KeepsParcelsOfFailures(Member):
    def _failed(self, submit: Submit, failure: Failure) -> Held:
        if submit.parcel_bytes and (self._rank == 0 or submit.relayed):
            self._parcels.put(submit.request_id, bytearray(submit.parcel_bytes))
        return super()._failed(submit, failure)


class GivesTheModelWhatItKeeps(Member):
    """A model that writes into its inputs then writes into the cache."""

    def _encoding(self, entry: Preparing) -> object:  # type: ignore[override]
        self._copy = False
        return super()._encoding(entry)


class MixesUpItems(Member):
    def _encoding(self, entry: Preparing) -> object:  # type: ignore[override]
        entry.cached = dict(zip(reversed(entry.cached), entry.cached.values(), strict=True))
        return super()._encoding(entry)


MEMBERS = [mutant for mutant in Member.__subclasses__() if mutant.__module__ == __name__]

# Deliveries.


class LeavesTheCollectiveOutWhenItFails(LeaderDelivery):
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        for order in orders:
            if isinstance(made := lead(self._ports, order), Failure):
                return [done(Delivered((), made)) for _ in orders]
        return super().begin(orders)


class FallsBackLocally(LeaderDelivery):
    """The analyses' way: what fails around the collective is done again here, and nobody else hears of it."""

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        return [self._try(order, super(FallsBackLocally, self).begin([order])[0]) for order in orders]

    def _try(self, order: Order, future: Future[Delivered]) -> Future[Delivered]:
        if future.result().failure is None or not self._ports.leads:
            return future
        again = attempt(lambda: self._ports.make(replace(order, fault=None)))
        return future if isinstance(again, Failure) else done(again)


class FailsBeforeTheCollective(LeaderDelivery):
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        futures = []
        for order in orders:
            struck = attempt(lambda order=order: strike(order.fault, "before_collective", self._ports.rank))  # type: ignore[misc]
            futures += [done(Delivered((), struck))] if struck else super().begin([order])
        return futures


class HasAnOrderOfItsOwn(LeaderDelivery):
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        if self._ports.rank != 1:
            return super().begin(orders)
        return super().begin(orders[::-1])[::-1]


class MixesUpTheBatch(LeaderBatch):
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        return super().begin(orders)[::-1]


class ForgetsTheBatch(LeaderBatch):
    """Evicts by itself: what all ranks computed, one has lost."""

    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        futures = super().begin(orders)
        if self._ports.rank == 1 and len(orders) > 1:
            futures[0] = done(self._results.pop(orders[0].request_id))
        return futures


class BroadcastsWhatIsDoneFirst(LeaderAsync):
    def _submit(self, order: Order) -> Future[Delivered]:
        future: Future[Delivered] = Future()
        carry = partial(self._carry, order, future)
        if self._ports.leads:
            self._making[order.request_id] = making = self._ports.pool.submit(lead, self._ports, order)
            making.add_done_callback(lambda _: self._ports.lane.submit(carry))
        else:
            self._ports.lane.submit(carry)
        return future


class LeavesOutWhatWasCancelled(LeaderAsync):
    def _carry(self, order: Order, future: Future[Delivered]) -> None:
        making = self._making.get(order.request_id)
        if making is not None and making.cancelled():
            del self._making[order.request_id]
            future.set_result(take(self._ports, self._cancelled()))
        else:
            super()._carry(order, future)

    def _cancelled(self) -> Failure:
        return Failure(503, "unavailable", "the request was aborted")


class TwoThreadsInOneGroup(LeaderAsync):
    def _carry(self, order: Order, future: Future[Delivered]) -> None:
        (received,) = exchange(self._ports, self._ports.in_step, [order], [self._made(order)])
        self._making.pop(order.request_id, None)
        future.set_result(take(self._ports, received))


class NeverEndsWhatWasCancelled(DelayedAsync):
    def _make(self, pending: Pending, received: object) -> None:
        if pending.cancelled:
            del self._pending[pending.order.request_id]
        else:
            super()._make(pending, received)


class DoesNotBroadcastWhatWasCancelled(DelayedAsync):
    def _carry(self, pending: Pending) -> None:
        if pending.cancelled:
            self._make(pending, None)
        else:
            super()._carry(pending)


class RemembersItsOrders(DelayedAsync):
    def begin(self, orders: Sequence[Order]) -> list[Future[Delivered]]:
        futures = super().begin(orders)
        self._pending |= {-order.request_id: Pending(order) for order in orders}
        return futures


DELIVERY_MUTANTS: list[type[Delivery]] = [
    mutant
    for kind in (LeaderDelivery, LeaderBatch, LeaderAsync, DelayedAsync)
    for mutant in kind.__subclasses__()
    if mutant.__module__ == __name__
]


def with_delivery(mutant: type[Delivery]) -> Parts:
    def kind(ports: RankPorts) -> Delivery:
        return mutant(ports)

    return Parts(deliveries={**DELIVERIES, mutant.name: kind})


# The lane, parcels, and the leader's table of the caches.


class NewestFirst(TurnLane):
    def turn(self) -> None:
        if self.broadcast.rank == 1:
            self.queue.reverse()
        super().turn()
        if self.broadcast.rank == 1:
            self.queue.reverse()


class WithoutTombstones(LateParcels):
    def drop(self, request_id: int) -> None:
        self._parcels.pop(request_id, None)


class TombstonesForAll(LateParcels):
    def drop(self, request_id: int) -> None:
        super().drop(request_id)
        self._dropped.add(request_id)


class TellsNobodyWhatItEvicts(CacheTable):
    def take_plan(self) -> CachePlan:
        return msgspec.structs.replace(super().take_plan(), evict=())


class KeepsWithoutSaying(CacheTable):
    def take_plan(self) -> CachePlan:
        return msgspec.structs.replace(super().take_plan(), keep=())


class KeepsBeyondItsLimit(CacheTable):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes + 20)


class ReusesWhatItEvicted(CacheTable):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.known: set[bytes] = set()

    def look(self, submit: Submit) -> tuple[int, ...]:
        super().look(submit)
        self.known |= self._entries.keys()
        found = tuple(index for index, item in enumerate(submit.items) if item.content_key in self.known)
        self._reuse = list(dict.fromkeys([*self._reuse, *((submit.request_id, index) for index in found)]))
        return found


class ReusesWithoutSaying(CacheTable):
    def look(self, submit: Submit) -> tuple[int, ...]:
        found = super().look(submit)
        self._reuse = self._reuse[: len(self._reuse) - len(found[1:])]
        return found


class KeepsWhatIsOnlyPrepared(CacheTable):
    def look(self, submit: Submit) -> tuple[int, ...]:
        found = super().look(submit)
        self.keep(submit)
        return found


def with_table(table: type[CacheTable]) -> Callable[..., Leader]:
    def make_leader(*, cache_bytes: int, **rest: object) -> Leader:
        leader = Leader(cache_bytes=cache_bytes, **rest)  # type: ignore[arg-type]
        leader._cache = table(cache_bytes)
        return leader

    return make_leader


# Leaders, where parcels are concerned.


class NamesARequestBeforeItsParcel(Leader):
    def submit(self, submit: Submit) -> None:
        super().submit(submit)
        if (request := self._requests.get(submit.request_id)) is not None:
            request.awaits_parcel = False


class ForgetsParcelsThatCameFirst(Leader):
    def submit(self, submit: Submit) -> None:
        super().submit(submit)
        if (request := self._requests.get(submit.request_id)) is not None:
            request.awaits_parcel = bool(submit.parcel_bytes)


class KeepsEarlyParcelsOfTheDead(Leader):
    def abort_all(self) -> None:
        self._early.clear()
        super().abort_all()


class WaitsForParcelsOfTheDead(Leader):
    def abort_all(self) -> None:
        super().abort_all()
        self._unwanted |= {request_id for request_id, each in self._requests.items() if each.submit.parcel_bytes}


class ForgetsUnwantedParcels(Leader):
    def _drop_parcel(self, request: Request) -> None:
        if not request.awaits_parcel:
            super()._drop_parcel(request)


class CancelsForItselfAlone(Leader):
    def propose(self) -> Plan | None:
        plan = super().propose()
        return plan and msgspec.structs.replace(
            plan, cancel=tuple(msgspec.structs.replace(cancel, relayed=False) for cancel in plan.cancel)
        )


class LosesCancels(Leader):
    def propose(self) -> Plan | None:
        plan = super().propose()
        return plan and msgspec.structs.replace(plan, cancel=plan.cancel[1:])


LEADERS = [mutant for mutant in Leader.__subclasses__() if mutant.__module__ == __name__]

MUTANTS: dict[str, Callable[..., Simulation]] = (
    {mutant.__name__: partial(Simulation, parts=Parts(member=mutant)) for mutant in MEMBERS}
    | {
        mutant.__name__: partial(Simulation, parts=with_delivery(mutant), delivery=mutant.name)
        for mutant in DELIVERY_MUTANTS
    }
    | {"NewestFirst": partial(Simulation, parts=Parts(lane=NewestFirst))}
    | {mutant.__name__: partial(Simulation, parts=Parts(parcels=mutant)) for mutant in LateParcels.__subclasses__()}
    | {mutant.__name__: partial(Simulation, leader=with_table(mutant)) for mutant in CacheTable.__subclasses__()}
    | {mutant.__name__: partial(Simulation, leader=mutant) for mutant in LEADERS}
)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_kills(name: str) -> None:
    assert killed_by(MUTANTS[name], name) is not None, "it survived"
