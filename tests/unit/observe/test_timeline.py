"""A timeline holds names and times, and nothing that a client wrote."""

from __future__ import annotations

import json

from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.journal import Journal
from mmplane.observe.timeline import timeline

TEXTS = {"id", "code", "modality", "delivery"}


def test_a_timeline_is_numbers_and_names_of_ours() -> None:
    journal = Journal()
    journey = journal.begin([(b"x-secret", b"hunter2")])
    journey.asked(["image"])
    for phase in PHASES[1 : PHASES.index("hold") + 1]:
        journey.enter(phase)
    journey.heard((Work(1, 5.0, 9.0, journey.began_s, 3.0, 2.0),), journey.began_s)
    journal.end(journey, 503, "unavailable")
    found = timeline(journey)
    assert "hunter2" not in json.dumps(found)
    assert {name for name, value in found.items() if isinstance(value, str)} == TEXTS
    assert found["status"] == 503
    for stage, process, start_ms, long_ms in found["spans"]:
        assert stage in {*PHASES, *STAGES}
        assert process in ("frontend", "rank 0")
        assert start_ms >= 0
        assert long_ms >= 0
    assert {span[0] for span in found["spans"] if span[1] == "rank 0"} == {"deliver", "decode", "transform", "encode"}
