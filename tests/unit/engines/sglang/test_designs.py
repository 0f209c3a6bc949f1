"""The contract of SGLang's designs, for each of them, on two processes in a real gloo group."""

from __future__ import annotations

import threading
from typing import Any, get_args

import pytest
from sglang_rank import Batch, Rank, Refusal, Request, request, requests

from gloo_pair import LIMIT_S, Bench, run_on_two_ranks
from mmplane.core.faults import Fault, Point
from mmplane.engines.sglang.designs.names import DESIGNS

BY_LEADER = ("leader", "leader-batch", "leader-async")
SHARED = (*BY_LEADER, "delayed", "delayed-async")
BACKGROUND = ("leader-async", "delayed-async")
POINTS = [point for point in get_args(Point) if point not in ("construct", "view", "encode")]
every_design = pytest.mark.parametrize("name", DESIGNS)


def test_these_are_the_analyses_designs() -> None:
    assert list(DESIGNS) == [
        "default", "leader", "leader-batch", "leader-async", "delayed", "delayed-async", "eager", "arena",
    ]  # fmt: skip
    assert all(design.analysis for design in DESIGNS.values())


@every_design
def test_inputs_come_to_every_rank_and_are_built_where_the_design_says(name: str) -> None:
    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        rank.step(*requests(name, "a", "b"))
        rank.step(request("c", name))
        rank.until_empty()
        batches = dict(bench.ports.meter.report().batches)
        return sorted(rank.handled), sorted(rank.built), batches

    first, second = run_on_two_ranks(program)
    assert first[0] == second[0] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert first[1] == ["a", "b", "c"]
    assert second[1] == ([] if name in BY_LEADER else ["a", "b", "c"])
    batches = {1: 1, 2: 1} if name == "leader-batch" else {1: 3} if name in SHARED else {}
    assert first[2] == second[2] == batches


def strikes(name: str, fault: Fault) -> bool:
    if fault.point == "materialise":
        return fault.rank == 0 or name not in BY_LEADER
    return name in SHARED


@every_design
def test_a_failure_at_any_point_of_any_rank_is_that_requests_on_all(name: str) -> None:
    faults = [Fault(point, rank) for point in POINTS for rank in range(2)]

    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        for number, fault in enumerate(faults):
            before, struck, after = requests(name, f"{number}a", f"{number}b", f"{number}c")
            struck.fault = fault
            rank.step(before, struck, after)
            rank.until_empty()
        return dict(rank.handled)

    first, second = run_on_two_ranks(program)
    assert first == second
    for number, fault in enumerate(faults):
        expected = "refused" if strikes(name, fault) else f"{number}b"
        assert (first[f"{number}a"], first[f"{number}b"], first[f"{number}c"]) == (
            f"{number}a", expected, f"{number}c",
        ), fault  # fmt: skip


@every_design
def test_inputs_that_nobody_can_build_are_that_requests_failure(name: str) -> None:
    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        rank.step(*requests(name, "a", "bad", "c"))
        rank.until_empty()
        return sorted(rank.handled)

    assert run_on_two_ranks(program) == [[("a", "a"), ("bad", "refused"), ("c", "c")]] * 2


def test_a_switch_takes_effect_between_two_messages_whatever_is_on_its_way() -> None:
    names = [*DESIGNS, *reversed(DESIGNS), "leader-async", "leader", "delayed-async", "leader-batch"]

    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        for number, name in enumerate(names):
            rank.step(request(f"{number}", name), request(f"{number}-", name))
        rank.until_empty()
        return sorted(rank.handled)

    expected = sorted((rid, rid) for number in range(len(names)) for rid in (f"{number}", f"{number}-"))
    assert run_on_two_ranks(program) == [expected] * 2


@every_design
def test_the_agreement_is_one_collective_for_a_step_that_has_something(name: str) -> None:
    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        rank.step()
        rank.step(Request("text"))
        none = rank.collectives
        rank.step(*requests(name, "a", "b", "c"), request("unmarked", None))
        return none, rank.collectives, [each for each in rank.handled if each[1] == "as it came"]

    for none, one, passed in run_on_two_ranks(program):
        assert (none, one) == (0, 1)
        assert passed == [("text", "as it came"), ("unmarked", "as it came")]


@pytest.mark.parametrize("name", ["arena", None])
def test_features_that_one_rank_alone_cannot_read_are_a_failure_on_all(name: str | None) -> None:
    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        lost, *others = (request(rid, name) for rid in ("lost", "a", "b"))
        if bench.ports.leads:
            lost.mm_inputs = Refusal("The features of this request could not be read.")
        rank.step(others[0], lost, others[1])
        rank.step(*requests("leader", "after"))
        return [(rid, what == "refused") for rid, what in rank.handled]

    expected = [("a", False), ("lost", True), ("b", False), ("after", False)]
    assert run_on_two_ranks(program) == [expected] * 2


@pytest.mark.parametrize("name", BACKGROUND)
def test_the_loop_goes_on_and_others_are_handled_meanwhile(name: str) -> None:
    def program(bench: Bench) -> Any:
        go_on = threading.Event()
        rank = Rank(bench, hold=lambda _: threads_wait(go_on))
        handled = [rank.step(request("slow", name)), rank.step(Request("text"))]
        handled.append(rank.step(Batch([request("also slow", name), Request("in a batch")])))
        go_on.set()
        rank.until_empty()
        return handled, sorted(rank.handled[2:])

    expected = [[], ["text"], ["in a batch"]], [("also slow", "also slow"), ("slow", "slow")]
    assert run_on_two_ranks(program) == [expected] * 2


@pytest.mark.parametrize("name", BACKGROUND)
def test_nothing_overtakes_what_is_in_a_session(name: str) -> None:
    def program(bench: Bench) -> Any:
        rank = Rank(bench)
        return rank.step(request("first", name, session_id="s"), Request("second", session_id="s"))

    assert run_on_two_ranks(program) == [["first", "second"]] * 2


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", BACKGROUND)
def test_an_abort_ends_what_is_held_back_on_all_ranks_and_leaves_no_collective_out(name: str, everything: bool) -> None:
    def program(bench: Bench) -> Any:
        go_on = threading.Event()
        rank = Rank(bench, hold=lambda _: threads_wait(go_on))
        rank.step(*(request(rid, name) for rid in ("a1", "a2", "b1", "a3", "a4")))
        aborted = [(one.rid, one.mm_inputs.message) for one in rank.building.abandon("a", everything=everything)]
        again = rank.building.abandon("a", everything=everything)
        rank.step(request("after", name))
        go_on.set()
        rank.until_empty()
        return [rid for rid, _ in aborted], again, rank.handled, "a4" in rank.built, bench.ports.meter.count

    first, second = run_on_two_ranks(program)
    for aborted, again, handled, last_was_built, collectives in (first, second):
        assert aborted == (["a1", "a2", "b1", "a3", "a4"] if everything else ["a1", "a2", "a3", "a4"])
        assert again == []
        assert sorted(handled) == ([("after", "after")] if everything else [("after", "after"), ("b1", "b1")])
        assert not last_was_built, "an aborted build that has not begun is spared"
        assert collectives == 6


def threads_wait(go_on: threading.Event) -> None:
    assert go_on.wait(LIMIT_S)
