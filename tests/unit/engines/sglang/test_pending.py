"""What all ranks agree on: simulated ranks that finish in any order and fail anywhere, and mutants of the agreement."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Any

import pytest
from sglang_rank import Refusal, request

from mmplane.core.errors import internal
from mmplane.delivery.delivery import Delivered, Delivery, Order, done
from mmplane.delivery.meter import Meter
from mmplane.engines.sglang.building.building import Building
from mmplane.engines.sglang.building.choice import MARK
from mmplane.engines.sglang.building.pending import PENDING_MAX, Entry, Pending
from mutation import Mutant, check_it_is_killed

SEEDS = 200
RANKS = 3


class Lockstep:
    """Ranks whose collective is what each of them would have said, computed beforehand."""

    def __init__(self) -> None:
        self.ranks = [Pending(self._agree) for _ in range(RANKS)]
        self._told: list[list[int]] = []

    def _agree(self, numbers: list[int]) -> list[int]:
        self._told.append(numbers)
        return self._least

    def settle(self) -> list[list[tuple[int, str]]]:
        """(number, outcome) of what each rank settles in this step."""
        self._least, self._told = [0] * (2 * len(self.ranks[0])), []
        dry = [Pending(self._agree) for _ in self.ranks]
        for pending, copy in zip(self.ranks, dry, strict=True):
            copy._entries = list(pending._entries)
            copy.settle()
        assert len({len(numbers) for numbers in self._told}) <= 1, "ranks enter different collectives"
        self._least = [min(column) for column in zip(*self._told, strict=True)]
        return [[(entry.order.request_id, outcome(given)) for entry, given in rank.settle()] for rank in self.ranks]


def outcome(delivered: Delivered) -> str:
    return "failed" if delivered.failure is not None else delivered.features[0]


def play(seed: int) -> None:
    """Ranks get the same requests, and finish them in their own time and with their own failures."""
    random = Random(seed)
    lockstep, futures, failing, settled = Lockstep(), [], set(), {}
    for number in range(random.randint(1, 8)):
        own = [Future[Delivered]() for _ in range(RANKS)]
        futures += [(number, rank, future) for rank, future in enumerate(own)]
        for rank, future in zip(lockstep.ranks, own, strict=True):
            rank.add(Entry(Order(number, ()), "leader", future, number))
        if random.random() < 0.3:
            failing.add((number, random.randrange(RANKS)))
    left = {number: RANKS for number, _, _ in futures}
    random.shuffle(futures)
    while futures or any(len(rank) for rank in lockstep.ranks):
        for number, rank, future in futures[: (count := random.randint(0, 4))]:
            failed = (number, rank) in failing
            future.set_result(Delivered((), internal("x").failure()) if failed else Delivered(("built",)))
            left[number] -= 1
        del futures[:count]
        first, *others = lockstep.settle()
        assert all(other == first for other in others), "ranks disagree"
        for number, what in first:
            assert left[number] == 0, "settled before all ranks are done"
            settled[number] = what
        if not futures:
            assert not any(left.values())
    failed = {number for number, _ in failing}
    assert settled == {number: "failed" if number in failed else "built" for number in left}


def test_ranks_settle_the_same_in_the_same_step() -> None:
    for seed in range(SEEDS):
        play(seed)


class Stuck(Delivery):
    """Never done."""

    name = "stuck"

    def begin(self, orders: Any) -> list[Future[Delivered]]:
        return [Future() for _ in orders]


def held_back(building: Building, count: int) -> int:
    """How many of so many requests of one step come back at once, refused."""
    ready = building.admit([request(str(number), "leader") for number in range(count)])
    assert all(isinstance(one.mm_inputs, Refusal) for one in ready)
    return len(ready)


def stuck(agree: Callable[[list[int]], list[int]] = lambda numbers: numbers) -> Building:
    unused: Any = None
    return Building(0, {"leader": Stuck(unused)}, Pending(agree), Refusal, Meter())


def test_one_more_than_the_bound_is_refused() -> None:
    building = stuck()
    assert held_back(building, PENDING_MAX - 1) == 0
    assert held_back(building, 3) == 2
    assert held_back(building, 1) == 1


def test_an_aborted_one_counts_until_all_ranks_are_done() -> None:
    building = stuck()
    assert held_back(building, PENDING_MAX) == 0
    building.abandon("", everything=True)
    assert held_back(building, 1) == 1


def test_a_message_that_names_an_unknown_design_passes() -> None:
    one = request("a", "leader")
    one.mm_inputs.mm_items[0].model_specific_data[MARK] = "unheard of"
    assert stuck().admit([one]) == [one]
    assert MARK not in one.mm_inputs.mm_items[0].model_specific_data


def test_those_at_once_are_waited_for() -> None:
    pending = Pending(lambda numbers: numbers)
    pending.add(Entry(Order(1, ()), "leader", done(Delivered(("built",))), 1, at_once=True))
    pending.add(Entry(Order(2, ()), "leader", Future(), 2))
    pending.wait_for_those_at_once(1000.0)  # not for the second
    assert [entry.order.request_id for entry, _ in pending.settle()] == [1]


MUTANTS = [
    Mutant("a rank settles what it has", Pending.settle, "if ready:", "if entry.future.done():", play, (3,)),
    Mutant("a rank believes itself alone", Pending.settle, "if fine else", "if entry.failure is None else", play, (3,)),
    Mutant(
        "the bound counts a step alone", Building._begin, "PENDING_MAX - len(self._pending)", "PENDING_MAX",
        test_one_more_than_the_bound_is_refused,
    ),
    Mutant(
        "an aborted one makes room at once", Pending.abandon, "entry.request = None",
        "self._entries.remove(entry)", test_an_aborted_one_counts_until_all_ranks_are_done,
    ),
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
