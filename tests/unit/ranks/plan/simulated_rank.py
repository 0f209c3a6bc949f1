"""A simulated rank: a real `Member`, a real `Schedule`, the real deliveries; ports and runner are simulated."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import msgspec
from simulated_ports import (
    LateParcels,
    NoWake,
    Tape,
    TapeBroadcast,
    TurnLane,
    TurnPool,
    Violation,
    check,
    materialise,
    view,
)
from simulated_runner import SimulatedRunner

from mmplane.core.plan import Held, Plan, Position
from mmplane.delivery.delivery import Delivery
from mmplane.delivery.names import DELIVERIES
from mmplane.delivery.rank_ports import RankPorts
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.member import Member
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Step

_plans = msgspec.msgpack.Decoder(Plan)


@dataclass(frozen=True)
class Parts:
    """What a rank is made of. Mutants replace one."""

    schedule: Callable[[int, int, Blocks], Schedule] = lambda _rank, prefill_tokens, blocks: Schedule(
        prefill_tokens, blocks
    )
    member: Callable[..., Member] = Member
    deliveries: Mapping[str, Callable[[RankPorts], Delivery]] = field(default_factory=lambda: DELIVERIES)
    lane: type[TurnLane] = TurnLane
    parcels: type[LateParcels] = LateParcels


@dataclass
class Circumstances:
    """What the ranks of one group share."""

    tp: int
    prefill_tokens: int
    blocks: Callable[[], Blocks]
    """Memory for keys and values."""
    running_max: int
    token_min: int
    cache_bytes: int
    embedding_bytes: int
    random: Random
    haste: float
    """How likely a thread in the background gets a turn."""
    writing: bool
    """Whether the model writes into what it is given."""
    slow: Callable[[], bool]
    """Whether what is being waited for takes too long."""
    in_step: Tape = field(default_factory=Tape)
    in_lane: Tape = field(default_factory=Tape)
    tables: dict[int, frozenset[bytes]] = field(default_factory=dict)
    """What the leader says that all caches hold, by plan."""


class SimulatedRank:
    """Takes plans, answers with `Held` and `Position`."""

    def __init__(self, rank: int, parts: Parts, around: Circumstances) -> None:
        self.rank = rank
        self.around = around
        random = around.random
        self.plans: deque[bytes] = deque()
        """On their way here."""
        self.answers: deque[Held | Position] = deque()
        """On their way to the leader."""
        clock = LoopClock(rank, now_s=lambda: 0.0)
        schedule = parts.schedule(rank, around.prefill_tokens, around.blocks())
        self.pool = TurnPool(random, around.slow)
        self.runner = SimulatedRunner(
            rank,
            schedule,
            lambda count: tuple(random.randrange(around.token_min, 20) for _ in range(count)),
            self.pool,
            writing=around.writing,
        )
        self.parcels = parts.parcels(around.slow)
        self.broadcasts = [TapeBroadcast(tape, rank, around.tp) for tape in (around.in_step, around.in_lane)]
        self.lane = parts.lane(self.broadcasts[1], waiting_max=around.running_max)
        ports = RankPorts(
            rank=rank,
            size=around.tp,
            materialise=materialise,
            view=view,
            parcels=self.parcels,
            in_step=self.broadcasts[0],
            in_lane=self.broadcasts[1],
            lane=self.lane,
            pool=self.pool,
            leader_pool=self.pool,
            item_seconds=0.0,
        )
        self.schedule = schedule
        self.deliveries = {name: kind(ports) for name, kind in parts.deliveries.items()}
        self.member = parts.member(
            self.runner, schedule, rank, self.deliveries, self.parcels, NoWake(), clock, copy=around.writing
        )
        self.steps: list[Step] = []
        self.digests: list[bytes] = []
        self.events: Counter[str] = Counter()
        self.tokens: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing of any request is left here, but parcels that are still coming."""
        return self.runner.empty and not (self.member._preparing or self.member._made)

    @property
    def busy(self) -> bool:
        """Whether anything is under way here."""
        return bool(
            self.plans
            or self.answers
            or self.member._preparing
            or self.lane.queue
            or self.pool.jobs
            or self.parcels.stream
        )

    def next_plan(self) -> Plan:
        """The oldest plan that is on its way."""
        return _plans.decode(self.plans[0])

    def take_next(self) -> Step:
        """Apply the oldest plan that is on its way."""
        plan = self.next_plan()
        self.plans.popleft()
        self.runner.expect(plan)
        step, self.tokens = self.member.take(plan)
        self.steps.append(step)
        position = self.member.position()
        self.digests.append(position.digest)
        self.answers.append(position)
        self._check_cache(plan)
        self._check_embeddings(plan)
        self._check_cancel(plan)
        return step

    def advance(self) -> Held | None:
        """One turn's encoding, if there is any."""
        if not self.member.preparing:
            return None
        held = self.member.advance()
        if held is not None:
            check(held.request_id not in self.runner.answered, "a rank answered twice for one request")
            self.runner.answered[held.request_id] = held.failure
        return held

    def background(self) -> None:
        """The threads of this rank, in any order."""
        if self.lane.queue and self.around.random.random() < self.around.haste:
            self.lane.turn()
        if self.pool.jobs and self.around.random.random() < self.around.haste:
            self.pool.turn()

    def _check_cache(self, plan: Plan) -> None:
        cache = self.member._cache
        self.events["kept"] += len(plan.cache.keep)
        self.events["evicted"] += len(plan.cache.evict)
        self.events["reused"] += len(plan.cache.reuse)
        table = self.around.tables[plan.number]
        if cache.keys() != table:
            raise Violation(f"rank {self.rank} caches {sorted(cache)} and the leader believes {sorted(table)}")
        if plan.cache.keep:
            cached_bytes = sum(features["x"].numel() for features in cache.values())
            check(cached_bytes <= self.around.cache_bytes, "a rank's cache has outgrown its limit")

    def _check_embeddings(self, plan: Plan) -> None:
        self.events["embeddings kept"] += len(plan.embeddings.keep)
        self.events["embeddings evicted"] += len(plan.embeddings.evict)
        kept_bytes, _ = self.runner.embedding_bytes
        check(kept_bytes <= self.around.embedding_bytes, "a rank keeps more bytes of embeddings than it may")

    def _check_cancel(self, plan: Plan) -> None:
        """Work that nobody waits for, and that had not begun, is spared."""
        for cancel in plan.cancel:
            for delivery in self.deliveries.values():
                making = vars(delivery).get("_making", {}).get(cancel.request_id)
                check(making is None or making.done(), "a cancelled request is still to be materialised")
                pending = vars(delivery).get("_pending", {}).get(cancel.request_id)
                check(pending is None or pending.cancelled, "a cancelled request is still to be materialised")

    def check_end(self) -> None:
        """After all: nothing of any request is anywhere."""
        check(self.empty, f"rank {self.rank} holds what nobody wants")
        check(self.parcels.empty, f"rank {self.rank} has parcels left: {self.parcels.statistics()}")
        check(not self.lane.queue, f"rank {self.rank} waits in a collective that the leader does not enter")
        check(all(one.level for one in self.broadcasts), f"rank {self.rank} left a collective out")
        leftover = [
            vars(delivery)[name]
            for delivery in self.deliveries.values()
            for name in ("_making", "_pending")
            if vars(delivery).get(name)
        ]
        check(not leftover, f"a delivery of rank {self.rank} keeps {leftover}")
