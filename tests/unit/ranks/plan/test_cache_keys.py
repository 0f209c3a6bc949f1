"""Analysis A2's cache under two keys: ours, over the media, and the one that it proposes, over the names of a dict.

Its own text says that the proposed key gives false hits. Here two requests have the same fields and different pictures,
through the real leader, its table, and the real members of two ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simulated_ports import NoWake, features_of, materialise

from mmplane.core.keys import content_key, media_digest
from mmplane.core.plan import Held, Sampling, Submit
from mmplane.core.records import Ask, Enclosed, Layout, Recipe, Tensor
from mmplane.delivery.delivery import Features
from mmplane.delivery.original import Original
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.rank_ports import RankPorts
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.leader import Leader
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.member import Member
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Step
from mutation import mutated

RANKS = 2
FIRST, OTHER = b"a picture", b"other one"


class KeepingRunner:
    """Notes the features that it is given."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.given: list[bytes] = []

    embedding_bytes = 0, 0

    def forget(self, keys: Sequence[bytes]) -> None:
        assert not keys

    def prepare(self, submit: Submit, features: Sequence[Features], **_: object) -> Iterator[Held]:
        self.given += [bytes(tensors["x"].tolist()) for tensors in features]
        yield Held(submit.request_id, self.rank, (), None)

    def run(self, step: Step) -> tuple[Drawn, ...]:
        return (Drawn(1),) * len(step.drawn) if self.rank == 0 else ()


class Group:
    """A leader and its ranks, in step."""

    def __init__(self) -> None:
        self.schedules = [Schedule(64, Blocks(100)) for _ in range(RANKS)]
        self.leader = Leader(
            tp=RANKS, schedule=self.schedules[0], running_max=8, end_tokens=frozenset(), cache_bytes=1000
        )
        self.runners = [KeepingRunner(rank) for rank in range(RANKS)]
        self.parcels = [Parcels() for _ in range(RANKS)]
        self.members = [self._member(rank) for rank in range(RANKS)]
        self.made = 0

    def _member(self, rank: int) -> Member:
        unused: Any = None
        ports = RankPorts(
            rank=rank,
            size=RANKS,
            materialise=self._materialise,
            view=unused,
            parcels=self.parcels[rank],
            in_step=unused,
            in_lane=unused,
            lane=unused,
            pool=unused,
            leader_pool=unused,
            item_seconds=1.0,
        )
        runner: Any = self.runners[rank]
        deliveries = {"original": Original(ports)}
        return Member(runner, self.schedules[rank], rank, deliveries, self.parcels[rank], NoWake(), LoopClock(rank))

    def _materialise(self, *work: Any) -> Any:
        self.made += 1
        return materialise(*work)

    def ask(self, request_id: int, media: bytes) -> None:
        """One request about this picture, until it has ended."""
        self.leader.submit(submit_of(request_id, media))
        for parcels in self.parcels:
            parcels.put(request_id, bytearray(media))
        self.leader.arrived(request_id, relayed=True)
        while (plan := self.leader.propose()) is not None:
            steps = [member.take(plan) for member in self.members]
            self.leader.sampled(steps[0][0].drawn, steps[0][1])
            for member in self.members:
                while member.preparing:
                    if (held := member.advance()) is not None:
                        self.leader.held(held)


def submit_of(request_id: int, media: bytes) -> Submit:
    key = content_key(Ask("image"), fingerprint=b"processor", tenant="", media_digest=media_digest(media))
    features_bytes = len(features_of(media))
    layout = Layout((Tensor("x", "uint8", (features_bytes,), 0),), (), features_bytes)
    item = Enclosed(key, Recipe("image", layout), 0, len(media), media=True)
    sampling = Sampling(1, 0.0, 1.0, 0, 1)
    return Submit(
        request_id, b"", None, 1, (item,), ((),), sampling,
        delivery="original", parcel_bytes=len(media), relayed=True, cache=True,
    )  # fmt: skip


def test_requests_with_the_same_fields_get_the_features_of_their_own_pictures() -> None:
    group = Group()
    for request_id, media in enumerate([FIRST, OTHER, FIRST], 1):
        group.ask(request_id, media)
    assert [runner.given for runner in group.runners] == [[features_of(m) for m in (FIRST, OTHER, FIRST)]] * RANKS
    assert group.made == 2 * RANKS, "the third request's picture was known, on every rank"


def test_the_proposed_key_serves_the_wrong_features() -> None:
    ours = "[KEY_VERSION, _encoder.encode(ask), fingerprint, tenant.encode(), media_digest]"
    group = Group()
    with mutated(content_key, ours, "[name.encode() for name in ask.__struct_fields__]"):
        group.ask(1, FIRST)
        group.ask(2, OTHER)
    assert [runner.given for runner in group.runners] == [[features_of(FIRST)] * 2] * RANKS, "a false hit"
