"""The journal counts each request once, under labels of ours, and remembers a bounded number."""

from __future__ import annotations

import pytest

from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.journal import KEPT_MAX, Journal, outcome_of


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "answered"), (499, "aborted"), (400, "refused"), (413, "refused"), (503, "failed")]
)
def test_outcomes(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome


def test_a_request_is_where_it_is() -> None:
    journal = Journal()
    first, second = journal.begin(), journal.begin()
    second.enter("body")
    assert journal.phases() == dict.fromkeys(PHASES, 0) | {"queue": 1, "body": 1}
    journal.end(first, 200)
    journal.end(second, 200)
    assert journal.phases() == dict.fromkeys(PHASES, 0)


def test_requests_are_counted_by_modality_and_outcome_their_stages_by_outcome() -> None:
    journal = Journal()
    for kinds, status in ((["image"], 200), (["image", "image"], 200), (["image", "audio"], 503), ([], 200)):
        journey = journal.begin()
        journey.asked(kinds)
        journey.delivery = "arena"
        journey.enter("body")
        journal.end(journey, status, "overloaded" if status == 503 else "")
    counted = {
        name: {labels: reading.below[-1] for labels, reading in journal.readings()[name].items()}
        for name in ("requests", "stages")
    }
    assert counted["requests"] == {("image", "answered"): 2, ("mixed", "failed"): 1, ("text", "answered"): 1}
    assert {labels: count for labels, count in counted["stages"].items() if labels[0] == "body"} == {
        ("body", "answered"): 3,
        ("body", "failed"): 1,
    }
    assert journal.counts()["failures"] == {("overloaded", "body"): 1}
    assert journal.statistics()["failures"] == {"overloaded in body": 1}


def test_tenants_are_told_apart() -> None:
    journal = Journal()
    for tenant, status, tokens in (("alice", 200, 7), ("alice", 503, 0), ("bob", 200, 5), ("", 429, 0)):
        journey = journal.begin()
        journey.tenant = tenant
        journey.prompt_tokens, journey.completion_tokens = tokens, tokens // 2
        journal.end(journey, status)
    counts = journal.counts()
    assert counts["tenants"] == {
        ("alice", "answered"): 1,
        ("alice", "failed"): 1,
        ("bob", "answered"): 1,
        ("", "refused"): 1,
    }
    assert {labels: count for labels, count in counts["tenant_tokens"].items() if count} == {
        ("alice", "prompt"): 7,
        ("alice", "completion"): 3,
        ("bob", "prompt"): 5,
        ("bob", "completion"): 2,
    }


def test_sums_have_no_histogram_of_their_own() -> None:
    journal = Journal()
    journey = journal.begin()
    for phase in PHASES[1:]:
        journey.enter(phase)
    journal.end(journey, 200)
    assert {labels[0] for labels in journal.readings()["stages"]} <= set(STAGES)


def test_a_client_that_went_away_is_no_failure() -> None:
    journal = Journal()
    journey = journal.begin()
    journey.enter("body")
    journal.end(journey, 499)
    counts = journal.counts()
    assert (counts["failures"], counts["aborts"]) == ({}, {("body",): 1})


def test_what_ranks_did_is_counted_by_rank() -> None:
    journal = Journal()
    journey = journal.begin()
    journey.enter("hold")
    journey.heard((Work(1, 5.0, 9.0, encode_ms=2.0), Work(0, 0.0, 9.0, encode_ms=3.0)), None)
    journal.end(journey, 200)
    readings = journal.readings()
    assert set(readings["deliver"]) == {("0",), ("1",)}
    assert readings["encode"]["1",].total_s == pytest.approx(0.003)
    assert set(readings["materialise"]) == {("0",)}, "the other made nothing"


def test_the_last_are_remembered_newest_first_and_no_more() -> None:
    journal = Journal()
    for number in range(KEPT_MAX + 5):
        journey = journal.begin()
        journey.request_id = number
        journal.end(journey, 200)
    kept = [journey.request_id for journey in journal.recent()]
    assert kept == list(range(KEPT_MAX + 4, 4, -1))
