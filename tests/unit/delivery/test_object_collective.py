"""The object collective on a real gloo group: what cannot be pickled is one payload's failure."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import torch.distributed as dist

from gloo_pair import Bench, run_on_two_ranks
from mmplane.core.errors import Failure
from mmplane.core.plan import Collectives
from mmplane.delivery.meter import Meter
from mmplane.delivery.object_collective import ObjectBroadcast


class OnlyTheLeaderCanRead:
    def __reduce__(self) -> Any:
        return _open_on_the_leader, ()


def _open_on_the_leader() -> str:
    if dist.get_rank() != 0:
        raise ValueError("not here")
    return "read"


def failed(payloads: list[object]) -> list[bool]:
    return [isinstance(payload, Failure) for payload in payloads]


def test_payloads_come_in_order() -> None:
    def program(rank: Bench) -> Any:
        sent: list[object] = ["one", {"two": b"2"}] if rank.ports.leads else [None, None]
        return rank.ports.in_step(sent, [None, None])

    assert run_on_two_ranks(program) == [["one", {"two": b"2"}]] * 2


@pytest.mark.parametrize("payload", [threading.Lock(), lambda: None, (number for number in range(3))])
def test_what_the_leader_cannot_pickle_fails_on_all_alone(payload: object) -> None:
    def program(rank: Bench) -> Any:
        sent: list[object] = ["one", payload, "three"] if rank.ports.leads else [None] * 3
        received = rank.ports.in_lane(sent, [None] * 3)
        again = rank.ports.in_lane(["again" if rank.ports.leads else None], [None])
        return failed(received), received[0], received[2], again

    assert run_on_two_ranks(program) == [([False, True, False], "one", "three", ["again"])] * 2


def test_what_one_rank_cannot_read_fails_on_that_rank_alone() -> None:
    def program(rank: Bench) -> Any:
        sent: list[object] = ["one", OnlyTheLeaderCanRead(), "three"] if rank.ports.leads else [None] * 3
        received = rank.ports.in_step(sent, [None] * 3)
        again = rank.ports.in_step(["again" if rank.ports.leads else None], [None])
        return failed(received), again

    assert run_on_two_ranks(program) == [([False] * 3, ["again"]), ([False, True, False], ["again"])]


def test_each_part_of_a_collective_is_timed_on_its_own() -> None:
    def program(rank: Bench) -> Any:
        moments_s = itertools.accumulate(itertools.cycle([1, 2, 4, 8]))
        meter = Meter()
        broadcast = ObjectBroadcast(dist.group.WORLD, rank.ports.rank, meter, now_s=lambda: next(moments_s))
        for count in (3, 1, 3):
            broadcast(["payload"] * count, [None] * count)
        return meter.report()

    leader, follower = run_on_two_ranks(program)
    batches = ((1, 1), (3, 2))
    assert leader == Collectives(batches, pickle_ms=6000.0, wait_ms=12000.0, transfer_ms=24000.0)
    assert follower == Collectives(batches, pickle_ms=24000.0, wait_ms=6000.0, transfer_ms=12000.0)
