"""A member of the group: what every rank does with a plan.

plan ─┬─ cancel, keep, evict: features and embeddings
      ├─ prepare ──> delivery.begin ──features──> encode, one item a turn ──> Held
      └─ segments ─> run the step
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import msgspec

from mmplane.core.errors import Failure, internal
from mmplane.core.plan import NOTHING, Held, Plan, Position, Submit, Work
from mmplane.core.records import Enclosed
from mmplane.delivery.delivery import Delivered, Delivery, Features, Order, done
from mmplane.delivery.parcels import Parcels
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.port import Drawn, Model, Turn
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Step
from mmplane.ranks.plan.wake import Wake


@dataclass
class Preparing:
    """A request between its plan and `Held`."""

    submit: Submit
    cached: dict[int, Features]
    """The features from the cache, by index of the item."""
    future: Future[Any]
    """What it waits for: its features, and later whatever a turn of `encoding` has begun."""
    began_s: float
    keep: frozenset[int]
    """The items whose embeddings the rank keeps."""
    reused_tokens: int
    """How many tokens of its prompt have been computed for an earlier request."""
    work: Work = NOTHING
    encoding: Iterator[Turn] | None = None

    @property
    def ready(self) -> bool:
        """Whether a turn can be spent on it."""
        return self.future.done()


class Member:
    """One rank's state, driven by its loop."""

    def __init__(
        self,
        runner: Model,
        schedule: Schedule,
        rank: int,
        deliveries: Mapping[str, Delivery],
        parcels: Parcels,
        wake: Wake,
        clock: LoopClock,
        *,
        copy: bool = False,
    ) -> None:
        self.clock = clock
        self._runner = runner
        self._schedule = schedule
        self._rank = rank
        self._deliveries = deliveries
        self._parcels = parcels
        self._wake = wake
        self._copy = copy
        """Whether the model writes into its inputs."""
        self._preparing: deque[Preparing] = deque()
        self._made: dict[int, dict[bytes, Features]] = {}
        """The features that a request holds, until it is admitted and the plan says which of them to keep.

        This includes features from the cache: they may have been evicted in the meantime, and the leader may keep them
        again.
        """
        self._cache: dict[bytes, Features] = {}

    def take(self, plan: Plan) -> tuple[Step, tuple[Drawn, ...]]:
        """Apply a plan. Returns its step, and the sampled tokens (rank 0 only)."""
        self.clock.worked()
        self._cancel(plan)
        step = self._schedule.apply(plan)
        self._remember(plan, step)
        self._begin(step, plan)
        with self.clock.computing():
            return step, self._runner.run(step)

    @property
    def preparing(self) -> bool:
        """Whether `advance` has something to do now. `wake` reports when a background delivery ends."""
        return any(entry.ready for entry in self._preparing)

    def advance(self) -> Held | None:
        """Encode one item of the oldest request whose features are here. Returns `Held` if that was its last item.

        No collective is entered here, so ranks need not be in step.
        """
        self.clock.worked()
        entry = next(entry for entry in self._preparing if entry.ready)
        if entry.encoding is None:
            entry.encoding = self._encoding(entry)
        turn = next(entry.encoding)
        if isinstance(turn, Future):
            entry.future = turn
            turn.add_done_callback(lambda _: self._wake.set())
        if not isinstance(turn, Held):
            return None
        self._preparing.remove(entry)
        encode_ms = (time.perf_counter() - entry.began_s) * 1000 - entry.work.deliver_ms
        work = msgspec.structs.replace(entry.work, encode_ms=encode_ms, encoded=turn.work.encoded)
        return msgspec.structs.replace(turn, work=work)

    def position(self) -> Position:
        """The position of this rank's admission log, and what the rank keeps."""
        parcels = self._parcels.statistics()
        return Position(
            self._rank,
            self._schedule.number,
            self._schedule.digest,
            parcels["held"] + parcels["dropped"],
            len(self._cache),
            parcels["received_bytes"],
            *self._runner.embedding_bytes,
        )

    def _cancel(self, plan: Plan) -> None:
        for cancel in plan.cancel:
            if not cancel.prepared:
                self._drop_parcel(cancel.request_id, relayed=cancel.relayed)
            elif (prepared := self._schedule.prepared.get(cancel.request_id)) is not None:
                self._deliveries[prepared.submit.delivery].cancel(cancel.request_id)

    def _remember(self, plan: Plan, step: Step) -> None:
        """Change the cache as the plan says, in its order: keep, then evict."""
        admitted = [self._made.pop(request_id, {}) for request_id in plan.admit]
        for request_id in step.drop_requests:
            self._made.pop(request_id, None)
        for key in plan.cache.keep:
            features = next((made[key] for made in admitted if key in made), None)
            if features is not None:  # its own memory, because a view would keep a whole parcel
                self._cache[key] = {name: tensor.clone() for name, tensor in features.items()}
        for key in plan.cache.evict:
            self._cache.pop(key, None)
        self._runner.forget(plan.embeddings.evict)

    def _begin(self, step: Step, plan: Plan) -> None:
        """Start delivering what a plan prepares. What comes from the cache needs no delivery."""
        orders: dict[str, list[tuple[Preparing, Order]]] = {}
        began_s = time.perf_counter()
        for submit in step.prepare:
            cached = {
                index: self._cache.get(submit.items[index].content_key, {})
                for request_id, index in plan.cache.reuse
                if request_id == submit.request_id
            }
            items = tuple(item for index, item in enumerate(submit.items) if index not in cached)
            keep = frozenset(index for request_id, index in plan.embeddings.keep if request_id == submit.request_id)
            reused_tokens = step.reused_tokens[submit.request_id]
            entry = Preparing(submit, cached, done(Delivered(())), began_s, keep, reused_tokens)
            self._preparing.append(entry)
            if items:
                orders.setdefault(submit.delivery, []).append((entry, Order.of(submit, items)))
        for name, group in orders.items():
            futures = self._deliveries[name].begin([order for _, order in group])
            for (entry, _), future in zip(group, futures, strict=True):
                entry.future = future
                future.add_done_callback(lambda _: self._wake.set())

    def _encoding(self, entry: Preparing) -> Iterator[Turn]:
        """The features are here, or will not come."""
        submit = entry.submit
        delivered: Delivered = entry.future.result()
        deliver_ms = (time.perf_counter() - entry.began_s) * 1000
        entry.work = msgspec.structs.replace(delivered.work, deliver_ms=deliver_ms, began_s=entry.began_s)
        if submit.parcel_bytes:
            self._drop_parcel(submit.request_id, relayed=submit.relayed)
        if delivered.failure is not None:
            return iter([self._failed(submit, delivered.failure)])
        if not all(entry.cached.values()):
            return iter([self._failed(submit, internal("a cached item is missing on a rank").failure())])
        fresh = iter(delivered.features)
        features = [entry.cached[index] if index in entry.cached else next(fresh) for index in range(len(submit.items))]
        if submit.cache:
            self._made[submit.request_id] = {
                # Reused features too: the plan that admits this request may keep again what was evicted in the
                # meantime.
                item.content_key: made
                for item, made in zip(submit.items, features, strict=True)
                if isinstance(item, Enclosed)
            }
            if self._copy:  # a later request gets the same features
                features = [{name: tensor.clone() for name, tensor in made.items()} for made in features]
        return self._runner.prepare(submit, features, keep=entry.keep, reused_tokens=entry.reused_tokens)

    def _failed(self, submit: Submit, failure: Failure) -> Held:
        return Held(submit.request_id, self._rank, (), failure)

    def _drop_parcel(self, request_id: int, *, relayed: bool) -> None:
        if self._rank == 0 or relayed:
            self._parcels.drop(request_id)
