"""A journey's stages add up, and each second is in one of them."""

from __future__ import annotations

import time

import msgspec
import pytest

from mmplane.core.buckets import Buckets
from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, STAGES, SUMS, Span
from mmplane.observe.journey import Journey


class Clock:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def through(clock: Clock, journey: Journey, upto: str) -> None:
    """One second in each phase until `upto` has begun."""
    for phase in PHASES[1 : PHASES.index(upto) + 1]:
        clock.now_s += 1
        journey.enter(phase)


def rounded(journey: Journey) -> dict[str, float]:
    return {stage: round(seconds, 6) for stage, seconds in journey.seconds.items()}


def test_names_are_told_apart() -> None:
    assert len(set(STAGES)) == len(STAGES)
    assert set(SUMS) <= set(PHASES)
    assert not set(SUMS) & set(STAGES)


def test_phases_follow_each_other_without_a_gap(clock: Clock) -> None:
    journey = Journey()
    through(clock, journey, "reply")
    clock.now_s += 1
    journey.end(200, "")
    assert rounded(journey) == dict.fromkeys(PHASES, 1.0)
    assert [span.stage for span in journey.spans] == list(PHASES)
    assert [span.began_s for span in journey.spans] == [100.0 + index for index in range(len(PHASES))]
    assert sum(journey.seconds.values()) == journey.ended_s - journey.began_s


def test_what_others_measured_is_summed_by_stage(clock: Clock) -> None:
    journey = Journey()
    journey.add([Span("decode", "worker 1", 1.0, 0.25), Span("decode", "worker 2", 1.0, 0.5)])
    assert journey.seconds == {"decode": 0.75}
    assert len(journey.spans) == 2


WORKS = (
    Work(1, materialise_ms=300, deliver_ms=340, began_s=107.2, decode_ms=200, encode_ms=10),
    Work(0, materialise_ms=0, deliver_ms=345, began_s=107.25, decode_ms=0, encode_ms=30),
)
"""The leader made the features, the other rank waited for them. The last to hold the request did so at 107.625."""


def held(clock: Clock) -> Journey:
    journey = Journey()
    through(clock, journey, "hold")
    assert clock.now_s == 107.0
    clock.now_s = 108.5
    journey.heard(WORKS, admitted_s=107.7)
    return journey


def test_what_ranks_did_is_told_apart(clock: Clock) -> None:
    journey = held(clock)
    assert journey.phase == "prefill"
    found = rounded(journey)
    assert found["hold"] == 0.7
    assert found["admission"] == round(0.7 - (107.625 - 107.2), 6)
    assert found["deliver"] == 0.045, "the longest, apart from what was made meanwhile"
    assert found["decode"] == 0.2
    assert found["transform"] == 0.1
    assert found["encode"] == 0.03
    clock.now_s = 109.0
    journey.enter("generate")
    assert rounded(journey)["prefill"] == 1.3, "from when the leader said so, not from when we heard"


def test_every_rank_has_spans(clock: Clock) -> None:
    spans = [span for span in held(clock).spans if span.process.startswith("rank")]
    assert [(span.process, span.stage) for span in spans] == [
        ("rank 0", "deliver"),
        ("rank 0", "decode"),
        ("rank 0", "transform"),
        ("rank 0", "encode"),
        ("rank 1", "deliver"),
        ("rank 1", "encode"),
    ]
    assert round(spans[-1].began_s + spans[-1].seconds, 6) == 107.625


def test_what_a_rank_made_lies_where_it_was_made(clock: Clock) -> None:
    journey = Journey()
    through(clock, journey, "hold")
    journey.heard((msgspec.structs.replace(WORKS[0], made_s=107.21),), admitted_s=107.7)
    made = [span for span in journey.spans if span.process == "rank 0" and span.stage in ("decode", "transform")]
    assert [round(span.began_s, 6) for span in made] == [107.21, 107.41]


def test_a_request_that_failed_stays_in_its_phase(clock: Clock) -> None:
    journey = Journey()
    through(clock, journey, "hold")
    clock.now_s += 2
    journey.heard((), None)
    journey.end(503, "unavailable")
    assert journey.phase == "hold"
    assert rounded(journey)["admission"] == 2.0
    assert "prefill" not in journey.seconds


def test_ranks_that_answer_too_late_change_nothing(clock: Clock) -> None:
    journey = Journey()
    through(clock, journey, "hold")
    journey.end(499, "")
    before = dict(journey.seconds)
    journey.heard(WORKS, 107.7)
    assert journey.seconds == before


def test_a_clock_that_runs_ahead_is_not_believed(clock: Clock) -> None:
    journey = Journey()
    through(clock, journey, "hold")
    journey.heard(WORKS, admitted_s=1e9)
    assert journey.seconds["hold"] == 0.0
    assert journey.seconds["admission"] == 0.0


class ChargesTheMakingTwice(Journey):
    """A mutant: what a follower waited for while the leader decoded counts as delivering."""

    def heard(self, works: tuple[Work, ...], admitted_s: float | None) -> None:
        super().heard(works, admitted_s)
        self.seconds["deliver"] = max(work.deliver_ms for work in works) / 1000


class BelievesTheReceipt(Journey):
    """A mutant: prefill begins when the front end hears of the admission, which is after the first step."""

    def heard(self, works: tuple[Work, ...], admitted_s: float | None) -> None:
        super().heard(works, time.perf_counter())


@pytest.mark.parametrize("mutant", [ChargesTheMakingTwice, BelievesTheReceipt])
def test_mutants_are_found(mutant: type[Journey], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Journey", mutant)
    with pytest.raises(AssertionError):
        test_what_ranks_did_is_told_apart(clock)


def test_the_first_token_and_the_gaps_between_a_samples_tokens_are_counted(clock: Clock) -> None:
    gaps = Buckets()
    journey = Journey(gaps)
    for at_s, sample in ((1.0, 0), (1.02, 1), (1.2, 0), (1.3, 1), (1.4, 0)):
        clock.now_s = 100.0 + at_s
        journey.drew(sample)
    assert journey.first_token_s - journey.began_s == pytest.approx(1.0)
    assert gaps.reading().below[-1] == 3, "one less than tokens, for each sample"
    assert gaps.total_s == pytest.approx(0.2 + 0.28 + 0.2)
