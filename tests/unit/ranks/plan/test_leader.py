"""Named cases of the leader: each is a sentence of its contract. The simulation covers the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from mmplane.core.errors import Failure, internal
from mmplane.core.plan import (
    Abort,
    Admitted,
    Cancel,
    Failed,
    Finish,
    FromLeader,
    Held,
    Plan,
    Position,
    Sampling,
    Submit,
    Tokens,
    Work,
)
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.leader import NO_STATES, PLAN_BYTES_MAX, Diverged, Leader
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.request import Request
from mmplane.ranks.plan.room import Room, Sizes
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import SequenceId
from mmplane.wire.link import encode

END = 0
FAILURE = internal("out of memory").failure()


class Led:
    """Mixed into a leader: its plans reach a schedule at once, as on rank 0."""

    def propose(self, now_s: float = 0.0) -> Plan | None:
        plan: Plan | None = super().propose(now_s)  # type: ignore[misc]
        if plan is not None:
            schedule: Schedule = self._schedule  # type: ignore[attr-defined]
            said = dict(zip(self.told, plan.tokens, strict=True))
            tokens = tuple(said.get(each, 70) for each in schedule._drawn)
            schedule.apply(msgspec.structs.replace(plan, tokens=tokens))
            self.told = ()
        return plan

    told: tuple[SequenceId, ...] = ()
    """What the tests say was drawn; the rest of what the schedule draws is made up."""

    def sampled(self, drawn: tuple[SequenceId, ...], tokens: tuple[int, ...]) -> None:
        self.told = drawn
        super().sampled(drawn, tokens)  # type: ignore[misc]


def leader(tp: int = 1, *, blocks: int = 100, running_max: int = 4, tenants: int = 1, room: Room = NO_STATES) -> Leader:
    """A block holds one token."""
    schedule = Schedule(1000, Blocks(blocks, 1))
    led: Any = type("Led", (Led, Leader), {})
    return led(
        tp=tp, schedule=schedule, running_max=running_max, end_tokens=frozenset({END}), tenants=tenants, room=room
    )


def request(
    request_id: int,
    *,
    prompt_tokens: int = 5,
    tokens_max: int = 5,
    samples: int = 1,
    size: int = 0,
    tenant: str = "",
) -> Submit:
    sampling = Sampling(tokens_max, 0.0, 1.0, 0, samples)
    return Submit(request_id, bytes(size), None, prompt_tokens, (), (), sampling, tenant=tenant)


def drawn(*tokens: int) -> tuple[Drawn, ...]:
    return tuple(map(Drawn, tokens))


def hold(leader: Leader, request_id: int, ranks: Iterable[int] = (0,), failure: Failure | None = None) -> None:
    for rank in ranks:
        leader.held(Held(request_id, rank, (b"%d" % rank,), failure))


def running(leader: Leader, *submits: Submit) -> None:
    """Bring requests to where they decode."""
    for submit in submits:
        leader.submit(submit)
    plan = leader.propose()
    assert plan is not None
    assert plan.prepare == submits
    for submit in submits:
        hold(leader, submit.request_id)
    plan = leader.propose()
    assert plan is not None
    assert plan.admit == tuple(submit.request_id for submit in submits)
    leader.outbox.clear()


def said(leader: Leader) -> list[FromLeader]:
    """What it has said since, but for the work: that has a test of its own."""
    records = [
        msgspec.structs.replace(record, work=()) if isinstance(record, Admitted | Failed) else record
        for record in leader.outbox
    ]
    leader.outbox.clear()
    return records


def sequences(*ids: SequenceId) -> tuple[SequenceId, ...]:
    return ids


def test_it_proposes_nothing_when_there_is_nothing_to_do() -> None:
    quiet = leader()
    assert quiet.propose() is None
    assert (quiet.number, quiet.settled) == (0, True)


def test_it_admits_what_every_rank_holds_and_not_before() -> None:
    three = leader(tp=3)
    three.submit(request(1))
    plan = three.propose()
    assert plan is not None
    assert (plan.number, plan.prepare, plan.admit) == (1, (request(1),), ())
    for rank in (2, 0):
        hold(three, 1, [rank])
        assert three.propose() is None
        assert said(three) == []
    hold(three, 1, [1])
    plan = three.propose()
    assert plan is not None
    assert (plan.number, plan.prepare, plan.admit) == (2, (), (1,))
    assert said(three) == [Admitted(1, ((b"0",), (b"1",), (b"2",)))], "digests in the order of ranks"


def test_a_failure_waits_for_all_ranks_and_the_first_rank_says_why() -> None:
    three = leader(tp=3)
    three.submit(request(1))
    three.propose()
    hold(three, 1, [2], internal("third").failure())
    hold(three, 1, [1], internal("second").failure())
    assert three.propose() is None
    assert said(three) == [], "rank 0 may still read the request's slots"
    hold(three, 1, [0])
    plan = three.propose()
    assert plan is not None
    assert (plan.finish, plan.admit) == ((Finish(1, -1, "error"),), ())
    assert said(three) == [Failed(1, internal("second").failure())]


def test_tokens_go_out_at_once_and_to_the_ranks_with_the_next_plan() -> None:
    one = leader()
    running(one, request(1, tokens_max=2))
    one.sampled(sequences((1, 0)), drawn(70))
    (tokens,) = said(one)
    assert isinstance(tokens, Tokens)
    assert [(token.token, token.reason) for token in tokens.tokens] == [(70, None)]
    plan = one.propose()
    assert plan is not None
    assert (plan.tokens, plan.finish) == ((70,), ())


@pytest.mark.parametrize(("token", "reason"), [(END, "stop"), (71, "length")])
def test_a_sample_ends_by_an_end_token_or_by_length(token: int, reason: str) -> None:
    one = leader()
    running(one, request(1, tokens_max=2))
    one.sampled(sequences((1, 0)), drawn(70))
    one.propose()
    said(one)
    one.sampled(sequences((1, 0)), drawn(token))
    (tokens,) = said(one)
    assert isinstance(tokens, Tokens)
    assert tokens.tokens[0].reason == reason
    plan = one.propose()
    assert plan is not None
    assert (plan.tokens, plan.finish) == ((token,), (Finish(1, 0, reason),))
    assert one.propose() is None
    assert one.progress().kv_tokens == 0


def test_an_end_token_may_be_ignored() -> None:
    one = leader()
    endless = request(1, tokens_max=2)
    sampling = msgspec.structs.replace(endless.sampling, ignore_end=True)
    running(one, msgspec.structs.replace(endless, sampling=sampling))
    reasons = []
    for _ in range(2):
        one.sampled(sequences((1, 0)), drawn(END))
        (tokens,) = said(one)
        assert isinstance(tokens, Tokens)
        reasons.append(tokens.tokens[0].reason)
        one.propose()
    assert reasons == [None, "length"]


def test_first_come_first_served_even_if_a_small_one_would_fit() -> None:
    one = leader(blocks=20)
    running(one, request(1))
    one.submit(request(2, prompt_tokens=15))
    one.submit(request(3))
    plan = one.propose()
    assert plan is not None
    assert plan.prepare == ()
    assert one.progress().waiting == 2
    one.abort(Abort(1))
    plan = one.propose()
    assert plan is not None
    assert [submit.request_id for submit in plan.prepare] == [2], "and what has ended makes room in the same plan"


@pytest.mark.parametrize(
    "too_large", [request(1, prompt_tokens=96), request(1, samples=3, prompt_tokens=86), request(1, samples=5)]
)
def test_what_can_never_fit_is_refused_at_once(too_large: Submit) -> None:
    one = leader()
    one.submit(too_large)
    (failed,) = said(one)
    assert isinstance(failed, Failed)
    assert failed.failure.status == 413
    assert one.propose() is None


def test_what_just_fits_is_taken() -> None:
    one = leader()
    running(one, request(1, prompt_tokens=80, samples=4))
    assert one.progress().kv_tokens == 80


def test_answers_get_their_memory_as_they_grow() -> None:
    """Both would not fit whole; the second begins beside the first, and nothing is refused."""
    one = leader(blocks=20)
    running(one, request(1, tokens_max=15), request(2, tokens_max=15))
    assert (one.progress().kv_tokens, one.progress().running) == (10, 2)


def test_with_several_tenants_memory_is_promised_whole() -> None:
    """Otherwise one tenant's long answers would push another tenant's out."""
    one = leader(blocks=20, tenants=2)
    one.submit(request(1, tenant="a"))
    one.submit(request(2, tenant="b"))
    one.submit(request(3, tenant="c", tokens_max=1))
    assert prepared(one) == [1, 2]
    assert prepared(one) == []


def test_seats_are_counted_by_sample() -> None:
    one = leader(blocks=1000)
    running(one, request(1, samples=3))
    one.submit(request(2, samples=2))
    plan = one.propose()
    assert plan is not None
    assert plan.prepare == ()


def test_seats_and_memory_of_a_request_come_back_with_its_last_sample() -> None:
    one = leader()
    running(one, request(1, samples=2))
    one.sampled(sequences((1, 0), (1, 1)), drawn(END, 70))
    one.propose()
    assert one.progress().kv_tokens == 6, "the prompt is still needed"
    one.sampled(sequences((1, 1)), drawn(END))
    one.propose()
    assert one.progress().kv_tokens == 0


def test_a_request_that_cannot_go_on_ends_on_all_ranks_and_no_other_does() -> None:
    one = leader()
    running(one, request(1, samples=2), request(2))
    said(one)
    one.sampled(sequences((1, 0), (1, 1), (2, 0)), (Drawn(70), Drawn(71, failure=FAILURE), Drawn(72)))
    tokens, failed = said(one)
    assert isinstance(tokens, Tokens)
    assert [(token.request_id, token.token) for token in tokens.tokens] == [(2, 72)]
    assert failed == Failed(1, FAILURE)
    plan = one.propose()
    assert plan is not None
    assert (plan.tokens, plan.finish) == ((70, 71, 72), (Finish(1, -1, "error"),))
    assert one.progress().kv_tokens == 6, "what is left is the other's"
    one.abort(Abort(1))
    assert said(one) == []


# Aborts, by phase.


def test_an_abort_while_waiting() -> None:
    one = leader(running_max=1)
    running(one, request(1))
    one.submit(request(2))
    one.abort(Abort(2))
    one.propose()
    (failed,) = said(one)
    assert isinstance(failed, Failed)
    assert failed.request_id == 2
    assert one.progress().waiting == 0


def test_an_abort_while_preparing_waits_for_all_ranks() -> None:
    two = leader(tp=2)
    two.submit(request(1))
    two.propose()
    two.abort(Abort(1))
    hold(two, 1, [0])
    plan = two.propose()
    assert plan is not None
    assert (plan.cancel, plan.finish) == ((Cancel(1, prepared=True, relayed=False),), ()), "the ranks may stop working"
    assert two.propose() is None
    assert said(two) == [], "rank 1 may still read the request's slots"
    hold(two, 1, [1])
    plan = two.propose()
    assert plan is not None
    assert (plan.finish, plan.admit) == ((Finish(1, -1, "abort"),), ())
    assert [type(record) for record in said(two)] == [Failed]


def test_an_abort_while_running() -> None:
    one = leader()
    running(one, request(1, samples=2))
    one.abort(Abort(1))
    plan = one.propose()
    assert plan is not None
    assert plan.finish == (Finish(1, -1, "abort"),)
    assert said(one) == [], "its slots were released when it was admitted"
    assert one.progress().kv_tokens == 0


def test_an_abort_of_one_sample() -> None:
    one = leader()
    running(one, request(1, samples=2))
    one.sampled(sequences((1, 0), (1, 1)), drawn(70, 71))
    one.abort(Abort(1, 0))
    plan = one.propose()
    assert plan is not None
    assert (plan.tokens, plan.finish) == ((70, 71), (Finish(1, 0, "abort"),))
    one.sampled(sequences((1, 1)), drawn(72))
    one.abort(Abort(1, 1))
    one.propose()
    assert one.progress().kv_tokens == 0


@pytest.mark.parametrize("abort", [Abort(1), Abort(1, 0), Abort(2), Abort(1, 7)])
def test_aborts_are_idempotent_and_strangers_are_ignored(abort: Abort) -> None:
    one = leader()
    running(one, request(1))
    one.sampled(sequences((1, 0)), drawn(END))
    said(one)
    for _ in range(2):
        one.abort(abort)
    plan = one.propose()
    assert plan is not None
    assert plan.finish == (Finish(1, 0, "stop"),)
    assert (said(one), one.propose(), one.progress().kv_tokens) == ([], None, 0)


def test_an_abort_that_crosses_the_failure() -> None:
    one = leader()
    one.submit(request(1))
    one.propose()
    one.abort(Abort(1))
    hold(one, 1, failure=FAILURE)
    one.propose()
    assert said(one) == [Failed(1, FAILURE)]


def test_when_the_front_end_has_gone_everything_goes() -> None:
    two = leader(tp=2, running_max=2)
    for number in (1, 2, 3):
        two.submit(request(number))
    two.propose()
    hold(two, 1, [0, 1])
    two.propose()  # 1 runs, 2 is being prepared, 3 waits
    said(two)
    two.abort_all()
    plan = two.propose()
    assert plan is not None
    assert plan.finish == (Finish(1, -1, "abort"),)
    for rank in (0, 1):
        two.position(Position(rank, two.number, b"same"))
    assert not two.settled, "the ranks still prepare request 2"
    hold(two, 2, [0, 1])
    plan = two.propose()
    assert plan is not None
    assert [record.request_id for record in said(two) if isinstance(record, Failed)] == [3, 2]
    two.position(Position(0, two.number, b"same"))
    assert not two.settled, "rank 1 has not dropped it yet"
    two.position(Position(1, two.number, b"same"))
    assert two.settled


# Parcels.


def inline(request_id: int) -> Submit:
    return msgspec.structs.replace(request(request_id), parcel_bytes=10, relayed=True)


def test_a_request_waits_for_its_parcel_and_others_do_not_wait_for_it() -> None:
    one = leader()
    one.submit(inline(1))
    one.submit(request(2))
    plan = one.propose()
    assert plan is not None
    assert [submit.request_id for submit in plan.prepare] == [2]
    assert one.propose() is None
    one.arrived(1, relayed=True)
    plan = one.propose()
    assert plan is not None
    assert [submit.request_id for submit in plan.prepare] == [1]


def test_a_parcel_may_come_first() -> None:
    one = leader()
    one.arrived(1, relayed=True)
    assert one.propose() is None
    one.submit(inline(1))
    plan = one.propose()
    assert plan is not None
    assert [submit.request_id for submit in plan.prepare] == [1]


@pytest.mark.parametrize("came_first", [True, False])
def test_a_parcel_that_nobody_wants_is_dropped_on_all_ranks(came_first: bool) -> None:
    one = leader()
    if came_first:
        one.arrived(1, relayed=True)
    one.submit(inline(1))
    one.abort(Abort(1))
    if not came_first:
        assert one.propose() is None
        one.arrived(1, relayed=True)
    plan = one.propose()
    assert plan is not None
    assert plan.cancel == (Cancel(1, prepared=False, relayed=True),)


def test_a_parcel_without_a_request_goes_with_the_front_end() -> None:
    one = leader()
    one.arrived(7, relayed=False)
    one.abort_all()
    plan = one.propose()
    assert plan is not None
    assert plan.cancel == (Cancel(7, prepared=False, relayed=False),)


def test_every_ranks_work_is_told() -> None:
    two = leader(tp=2)
    two.submit(request(1))
    two.propose()
    for rank in (1, 0):
        two.held(Held(1, rank, (), None, Work(rank + 1)))
    two.propose()
    (admitted,) = two.outbox
    assert isinstance(admitted, Admitted)
    assert admitted.work == (Work(1), Work(2))


# Messages.


def test_a_plan_never_exceeds_a_message() -> None:
    one = leader(blocks=10_000, running_max=100)
    for number in range(1, 101):
        one.submit(request(number, size=3000))
    prepared: list[int] = []
    while len(prepared) < 100:
        plan = one.propose()
        assert plan is not None
        assert len(encode(plan)) <= PLAN_BYTES_MAX + 16 * 1024 <= MESSAGE_BYTES_MAX
        prepared += [submit.request_id for submit in plan.prepare]
        for submit in plan.prepare:
            hold(one, submit.request_id)
    assert prepared == list(range(1, 101))


@pytest.mark.parametrize("samples", [256, 1024])
def test_plans_and_tokens_of_many_samples_fit_into_a_message(samples: int) -> None:
    """All samples draw, and all end, in one step."""
    one = leader(blocks=1 << 40, running_max=samples)
    ids = [(1 << 40) + number for number in range(samples)]
    for request_id in ids:
        one.submit(request(request_id, tokens_max=1))
    while one.progress().waiting:
        plan = one.propose()
        assert plan is not None
        for submit in plan.prepare:
            hold(one, submit.request_id)
        said(one)
    plan = one.propose()
    assert plan is None or len(encode(plan)) <= MESSAGE_BYTES_MAX
    said(one)
    one.sampled(tuple((request_id, 0) for request_id in ids), drawn(*(300_000,) * samples))
    (tokens,) = said(one)
    assert len(encode(tokens)) <= MESSAGE_BYTES_MAX
    plan = one.propose()
    assert plan is not None
    assert len(plan.finish) == samples
    assert len(encode(plan)) <= MESSAGE_BYTES_MAX


# Positions.


def test_equal_logs_are_fine_in_any_order_of_arrival() -> None:
    three = leader(tp=3)
    for number in (1, 2, 3):
        three.position(Position(0, number, b"log %d" % number))
    for number in (1, 2, 3):
        three.position(Position(2, number, b"log %d" % number))
    three.position(Position(1, 1, b"log 1"))
    assert [(report.rank, report.number) for report in three.progress().ranks] == [(0, 3), (1, 1), (2, 3)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_another_log_is_fatal_at_whatever_plan(number: int) -> None:
    two = leader(tp=2)
    for each in (1, 2, 3):
        two.position(Position(0, each, b"log"))
    with pytest.raises(Diverged, match=f"rank 1 .* plan {number}"):
        two.position(Position(1, number, b"another"))


# Tenants.


def prepared(leader: Leader) -> list[int]:
    """What the next plan prepares."""
    plan = leader.propose()
    return [] if plan is None else [submit.request_id for submit in plan.prepare]


def test_a_tenant_with_long_answers_leaves_seats_to_another() -> None:
    shared = leader(tenants=2)
    for number in range(1, 6):
        shared.submit(request(number, tenant="greedy"))
    assert prepared(shared) == [1, 2], "half of four seats"
    shared.submit(request(6, tenant="other"))
    assert prepared(shared) == [6]


def test_the_tenant_with_fewest_seats_is_next() -> None:
    shared = leader(running_max=5, tenants=3)
    for number, tenant in enumerate("aab", 1):
        shared.submit(request(number, tenant=tenant))
    assert prepared(shared) == [1, 3, 2]


def test_a_tenant_has_its_share_of_cache_memory() -> None:
    shared = leader(blocks=40, tenants=2)
    for number in range(1, 4):
        shared.submit(request(number, prompt_tokens=5, tokens_max=10, tenant="greedy"))
    assert prepared(shared) == [1]
    shared.submit(request(4, prompt_tokens=15, tokens_max=5, tenant="other"))
    assert prepared(shared) == [4]
    shared.submit(request(5, prompt_tokens=16, tokens_max=5, tenant="other"))
    assert [record.failure.status for record in shared.outbox if isinstance(record, Failed)] == [413]


def test_what_a_tenant_gives_back_is_its_own_again() -> None:
    shared = leader(running_max=2, tenants=2)
    running(shared, request(1, tenant="a"))
    shared.submit(request(2, tenant="a"))
    assert prepared(shared) == []
    shared.sampled(sequences((1, 0)), drawn(END))
    assert prepared(shared) == [2]


def test_who_leaves_the_line_leaves_nothing() -> None:
    shared = leader(running_max=2, tenants=2)
    for number in (1, 2):
        shared.submit(request(number, tenant="a"))
    assert prepared(shared) == [1]
    shared.abort(Abort(2))
    assert shared.progress().waiting == 0
    assert not shared._waiting


THREE_STATES = Room(100, 35, Sizes(1, 10))
"""Room for the states of three sequences."""


def test_a_request_begins_when_there_is_room_for_its_states() -> None:
    one = leader(room=THREE_STATES)
    running(one, request(1, samples=2))
    for number, samples in ((2, 2), (3, 1)):
        one.submit(request(number, samples=samples))
    assert prepared(one) == [], "the first in the line waits, and nobody passes it"
    one.sampled(sequences((1, 0), (1, 1)), drawn(END, END))
    assert prepared(one) == [2, 3]


def test_states_that_never_fit_are_refused() -> None:
    one = leader(room=THREE_STATES)
    one.submit(request(1, samples=4))
    assert [record.failure.status for record in one.outbox if isinstance(record, Failed)] == [413]
    one.submit(request(2, samples=3))
    assert prepared(one) == [2]


def test_a_tenant_has_its_share_of_the_memory_for_states() -> None:
    shared = leader(running_max=8, room=Room(100, 40, Sizes(1, 10)), tenants=2)
    for number, tenant in ((1, "a"), (2, "a"), (3, "a"), (4, "b")):
        shared.submit(request(number, tenant=tenant))
    assert prepared(shared) == [1, 4, 2]


class CountsNoStates(Leader):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"room": NO_STATES}))


class KnowsNoTenants(Leader):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"tenants": 1}))


class ServesWhoCameFirst(Leader):
    def _next(self) -> Request | None:
        return self._requests[min(map(min, self._waiting.values()))] if self._waiting else None


@pytest.mark.parametrize(
    ("mutant", "killer"),
    [
        (KnowsNoTenants, test_a_tenant_with_long_answers_leaves_seats_to_another),
        (KnowsNoTenants, test_a_tenant_has_its_share_of_cache_memory),
        (ServesWhoCameFirst, test_the_tenant_with_fewest_seats_is_next),
        (CountsNoStates, test_a_request_begins_when_there_is_room_for_its_states),
        (CountsNoStates, test_states_that_never_fit_are_refused),
        (KnowsNoTenants, test_a_tenant_has_its_share_of_the_memory_for_states),
    ],
)
def test_mutants(mutant: type[Leader], killer: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Leader", mutant)
    with pytest.raises(AssertionError):
        killer()
