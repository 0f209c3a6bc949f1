"""Named cases of the schedule: each is a sentence of its contract. The simulation covers the rest."""

from __future__ import annotations

import copy

import msgspec
import pytest

from mmplane.core.plan import Finish, Plan, Sampling, Submit
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Segment, Step


def request(request_id: int, prompt_tokens: int, samples: int = 1) -> Submit:
    return Submit(request_id, b"", None, prompt_tokens, (), (), Sampling(9, 0.0, 1.0, 0, samples))


class Plans:
    """Numbers plans for a schedule."""

    def __init__(self, prefill_tokens: int) -> None:
        self.schedule = Schedule(prefill_tokens, Blocks(64))

    def __call__(
        self,
        *tokens: int,
        finish: tuple[Finish, ...] = (),
        admit: tuple[int, ...] = (),
        prepare: tuple[Submit, ...] = (),
    ) -> Step:
        return self.schedule.apply(Plan(self.schedule.number + 1, tokens, finish, admit, prepare))


def prompt(request_id: int, start: int, count: int, draws: int = 0) -> Segment:
    return Segment((request_id, 0), start, count, (), draws)


def decode(request_id: int, sample: int, start: int, token: int) -> Segment:
    return Segment((request_id, sample), start, 1, (token,), 1)


def test_life_of_a_request() -> None:
    plans = Plans(prefill_tokens=4)
    one = request(1, prompt_tokens=6)
    step = plans(prepare=(one,))
    assert (step.number, step.prepare, step.segments) == (1, (one,), ())
    assert plans(admit=(1,)).segments == (prompt(1, 0, 4),)
    step = plans()
    assert (step.segments, step.drawn) == ((prompt(1, 4, 2, draws=1),), ((1, 0),))
    assert plans(70).segments == (decode(1, 0, 6, token=70),)
    assert plans(71).segments == (decode(1, 0, 7, token=71),)
    step = plans(72, finish=(Finish(1, 0, "stop"),))
    assert (step.drop, step.drop_requests, step.segments) == (((1, 0),), (1,), ())
    assert (plans.schedule.prepared, plans.schedule.sequences) == ({}, {})


def test_samples_are_forked_where_the_prompt_ends() -> None:
    plans = Plans(prefill_tokens=3)
    plans(prepare=(request(1, 5, samples=3),))
    plans(admit=(1,))
    assert list(plans.schedule.sequences) == [(1, 0)]
    step = plans()
    assert step.segments == (prompt(1, 3, 2, draws=3),)
    assert step.drawn == tuple(plans.schedule.sequences) == ((1, 0), (1, 1), (1, 2))
    step = plans(70, 71, 72)
    assert step.segments == (decode(1, 0, 5, 70), decode(1, 1, 5, 71), decode(1, 2, 5, 72))


def test_the_other_samples_go_on_when_one_ends() -> None:
    plans = Plans(prefill_tokens=5)
    plans(prepare=(request(1, 5, samples=2),))
    plans(admit=(1,))
    step = plans(70, 71, finish=(Finish(1, 0, "stop"),))
    assert (step.drop, step.drop_requests) == (((1, 0),), ())
    assert step.segments == (decode(1, 1, 5, 71),)
    assert plans(72, finish=(Finish(1, 1, "length"),)).drop_requests == (1,)


def test_decoding_comes_before_prompts_and_beside_the_budget() -> None:
    plans = Plans(prefill_tokens=2)
    plans(prepare=(request(1, 2), request(2, 3)))
    assert plans(admit=(1, 2)).segments == (prompt(1, 0, 2, draws=1),)
    assert plans(70).segments == (decode(1, 0, 2, 70), prompt(2, 0, 2))
    assert plans(71).segments == (decode(1, 0, 3, 71), prompt(2, 2, 1, draws=1))


def test_one_budget_for_all_prompts_oldest_first() -> None:
    plans = Plans(prefill_tokens=7)
    plans(prepare=tuple(request(number, 3) for number in (1, 2, 3)))
    step = plans(admit=(1, 2, 3))
    assert step.segments == (prompt(1, 0, 3, draws=1), prompt(2, 0, 3, draws=1), prompt(3, 0, 1))


def test_what_fails_before_it_is_admitted_leaves_nothing() -> None:
    plans = Plans(prefill_tokens=7)
    plans(prepare=(request(1, 3), request(2, 3)))
    step = plans(finish=(Finish(1, -1, "error"),), admit=(2,))
    assert (step.drop, step.drop_requests) == ((), (1,))
    assert list(plans.schedule.prepared) == [2]


def test_a_whole_request_ends_in_the_middle_of_its_prompt() -> None:
    plans = Plans(prefill_tokens=2)
    plans(prepare=(request(1, 9, samples=4), request(2, 2)))
    plans(admit=(1, 2))
    step = plans(finish=(Finish(1, -1, "abort"),))
    assert (step.drop, step.drop_requests) == (((1, 0),), (1,))
    assert step.segments == (prompt(2, 0, 2, draws=1),)


def test_a_sample_and_its_request_may_end_in_one_plan() -> None:
    plans = Plans(prefill_tokens=5)
    plans(prepare=(request(1, 5, samples=3),))
    plans(admit=(1,))
    step = plans(70, 71, 72, finish=(Finish(1, 1, "length"), Finish(1, -1, "abort")))
    assert (set(step.drop), step.drop_requests) == ({(1, 0), (1, 1), (1, 2)}, (1,))


def test_an_empty_plan_computes_nothing_and_counts() -> None:
    plans = Plans(prefill_tokens=5)
    before = plans.schedule.digest
    step = plans()
    assert (step.number, step.segments, step.drawn) == (1, (), ())
    assert plans.schedule.digest != before


@pytest.mark.parametrize("number", [0, 2, 7])
def test_a_plan_out_of_order_is_a_bug(number: int) -> None:
    with pytest.raises(AssertionError, match="after 0"):
        Schedule(1, Blocks(9)).apply(Plan(number, (), (), (), ()))


@pytest.mark.parametrize("tokens", [(), (1, 2)])
def test_another_number_of_tokens_is_a_bug(tokens: tuple[int, ...]) -> None:
    plans = Plans(prefill_tokens=5)
    plans(prepare=(request(1, 5),))
    plans(admit=(1,))
    with pytest.raises(AssertionError, match="one token per"):
        plans(*tokens)


def test_the_same_plans_give_the_same_steps_and_the_same_log() -> None:
    plans = [
        Plan(1, (), (), (), (request(1, 3), request(2, 4, samples=2))),
        Plan(2, (), (), (1, 2), ()),
        Plan(3, (70,), (Finish(1, 0, "stop"),), (), ()),
        Plan(4, (71, 72), (), (), (request(3, 1),)),
    ]
    one, other = Schedule(4, Blocks(9)), Schedule(4, Blocks(9))
    for plan in plans:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=Plan)
        assert one.apply(plan) == other.apply(sent)
        assert one.digest == other.digest
    assert len(one.digest) == 16


def test_the_log_tells_plans_apart() -> None:
    """Invariant 3: what ranks compare differs as soon as one of them did anything else."""
    base = Plans(prefill_tokens=4)
    base(prepare=(request(1, 6), request(2, 6)))
    base(admit=(1,))
    logs = set()
    for plan in (
        {},
        {"admit": (2,)},
        {"prepare": (request(3, 1),)},
        {"finish": (Finish(1, 0, "stop"),)},
        {"finish": (Finish(1, 0, "abort"),)},
        {"finish": (Finish(2, -1, "abort"),)},
    ):
        plans = copy.deepcopy(base)
        plans(**plan)
        logs.add(plans.schedule.digest)
    assert len(logs) == 6


def test_the_log_tells_the_past_apart() -> None:
    one, other = Plans(prefill_tokens=4), Plans(prefill_tokens=5)
    for plans in (one, other):
        plans(prepare=(request(1, 6),))
    assert one.schedule.digest == other.schedule.digest
    for plans in (one, other):
        plans(admit=(1,))
        plans()
        plans(70, finish=(Finish(1, 0, "stop"),))
    assert one.schedule.sequences == other.schedule.sequences == {}
    assert one.schedule.digest != other.schedule.digest
