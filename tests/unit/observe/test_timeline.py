"""A timeline holds names and times, and nothing that a client wrote."""

from __future__ import annotations

import json

import pytest

from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, STAGES, SUMS, Span
from mmplane.observe.journal import Journal
from mmplane.observe.timeline import SPANS_MAX, _encoded, timeline
from mutation import Mutant, check_it_is_killed

TEXTS = {"id", "code", "modality", "delivery"}


def test_a_timeline_is_numbers_and_names_of_ours() -> None:
    journal = Journal()
    journey = journal.begin([(b"x-secret", b"hunter2")])
    journey.asked(["image"])
    for phase in PHASES[1 : PHASES.index("hold") + 1]:
        journey.enter(phase)
    journey.heard((Work(1, 5.0, 9.0, journey.began_s, 3.0, 2.0),), journey.began_s)
    journal.end(journey, 503, "unavailable")
    found = json.loads(bytes(timeline(journey)))
    assert "hunter2" not in json.dumps(found)
    assert {name for name, value in found.items() if isinstance(value, str)} == TEXTS
    assert found["status"] == 503
    for stage, process, start_ms, long_ms in found["spans"]:
        assert stage in {*PHASES, *STAGES}
        assert process in ("frontend", "rank 0")
        assert start_ms >= 0
        assert long_ms >= 0
    assert {span[0] for span in found["spans"] if span[1] == "rank 0"} == {"deliver", "decode", "transform", "encode"}


def test_a_timeline_shows_its_phases_and_a_bounded_number_of_parts() -> None:
    journal = Journal()
    journey = journal.begin()
    journey.asked(["image"] * 128)
    for phase in PHASES[1:]:
        journey.enter(phase)
    for number in range(128):
        journey.add([Span(stage, f"worker {number % 4}", 1.0, number / 1000) for stage in SUMS["materialise"]])
    journal.end(journey, 200)
    found = json.loads(bytes(timeline(journey)))
    assert len(found["spans"]) == SPANS_MAX
    assert found["spans_left_out"] == len(PHASES) + 128 * len(SUMS["materialise"]) - SPANS_MAX
    assert [span[0] for span in found["spans"][: len(PHASES)]] == list(PHASES)
    assert min(span[3] for span in found["spans"][len(PHASES) :]) >= 117, "the longest"
    assert timeline(journey) is timeline(journey), "it is made once"


def test_the_mutant_that_shows_every_span_is_killed(request: pytest.FixtureRequest) -> None:
    killer = test_a_timeline_shows_its_phases_and_a_bounded_number_of_parts
    check_it_is_killed(Mutant("every span", _encoded, "SPANS_MAX - len(phases)", "len(parts)", killer), request)
