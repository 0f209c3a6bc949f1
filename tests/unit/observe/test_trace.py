"""What traces cost when they are off (no import), and what happens when their receiver does not answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mmplane.core.stages import PHASES, Span
from mmplane.observe.journal import Journal
from mmplane.observe.trace import Tracer


def test_the_front_end_does_not_import_it() -> None:
    code = "import sys, mmplane.frontend.main; sys.exit('mmplane.observe.trace' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=100).returncode == 0


@pytest.fixture
def tracer() -> Tracer:
    return Tracer("file:/dev/null", "tiny")


def ended(journal: Journal) -> None:
    journey = journal.begin([(b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")])
    for phase in PHASES[1:]:
        journey.enter(phase)
    journal.end(journey, 200)


class Stuck(SpanExporter):
    """A receiver that does not answer until it is told, and then refuses."""

    def __init__(self) -> None:
        self.entered, self.free = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.free.wait(60)
        return SpanExportResult.FAILURE


def test_a_receiver_that_does_not_answer_loses_traces_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    monkeypatch.setattr("mmplane.observe.trace.WAITING_MAX", 3)
    monkeypatch.setattr("mmplane.observe.trace.TOGETHER_MAX", 1)
    monkeypatch.setattr("mmplane.observe.trace._exporter", lambda _to: stuck)
    tracer = Tracer("http://nowhere", "tiny")
    journal = Journal(tracer)
    ended(journal)
    assert stuck.entered.wait(60)
    for _ in range(5):
        ended(journal)
    assert tracer.dropped == 2, "three wait"
    stuck.free.set()
    tracer.flush()
    assert tracer.dropped == 6, "and what it refused is counted too"


def test_a_journey_that_is_not_sampled_is_not_kept(tracer: Tracer) -> None:
    journal = Journal(tracer)
    journey = journal.begin([(b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00")])
    assert not journey.span.is_recording()
    journal.end(journey, 200)
    ((name, value),) = journey.headers
    assert name == b"traceparent"
    assert value.startswith(b"00-" + b"1" * 32)
    assert value.endswith(b"-00")


def test_headers_that_are_no_text_of_ours_do_no_harm(tracer: Tracer) -> None:
    journal = Journal(tracer)
    journey = journal.begin([(b"traceparent", b"\xff\x00" * 100), (b"tracestate", b"=,=,=")])
    assert journey.span.is_recording(), "a trace of our own"
    journal.end(journey, 400, "invalid_json")


def test_nothing_that_a_client_wrote_is_exported(tmp_path: Path) -> None:
    """One request of 16 items exported 763 KB when its `tracestate` had 8 KB (A31)."""
    sizes = []
    for state in (b"", b",".join(b"vendor%d=%s" % (each, b"s3cret" * 40) for each in range(32))):
        file = tmp_path / f"{len(state)}.jsonl"
        tracer = Tracer(f"file:{file}", "tiny")
        journal = Journal(tracer)
        headers = [(b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), (b"tracestate", state)]
        journey = journal.begin(headers)
        for phase in PHASES[1:]:
            journey.enter(phase)
        journey.spans.extend(Span("decode", f"worker {each}", journey.began_s, 0.1) for each in range(16))
        journal.end(journey, 200)
        tracer.flush()
        text = file.read_text()
        assert len(text.splitlines()) >= 16 + len(PHASES)
        assert "s3cret" not in text
        sizes.append(len(text))
    assert abs(sizes[0] - sizes[1]) < 100, "times differ by some digits"


def test_spans_carry_opentelemetrys_names_and_the_phase_that_failed_says_so(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    tracer = Tracer(f"file:{file}", "tiny")
    journal = Journal(tracer)
    for status, code in ((200, ""), (503, "unavailable"), (400, "invalid_media")):
        journey = journal.begin([])
        journey.prompt_tokens = 7
        for phase in PHASES[1 : PHASES.index("generate")]:
            journey.enter(phase)
        if status == 200:
            journey.drew(0)
            journey.completion_tokens = 1
        journal.end(journey, status, code)
    tracer.flush()
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    roots = {each["attributes"]["http.response.status_code"]: each for each in spans if each["name"].startswith("POST")}
    answered = roots[200]["attributes"]
    assert answered["gen_ai.operation.name"] == "chat"
    assert answered["gen_ai.request.model"] == answered["gen_ai.response.model"] == "tiny"
    assert (answered["gen_ai.usage.input_tokens"], answered["gen_ai.usage.output_tokens"]) == (7, 1)
    assert answered["gen_ai.latency.time_to_first_token"] > 0
    assert "gen_ai.latency.time_to_first_token" not in roots[503]["attributes"]
    failed = [each for each in spans if each["status"]["status_code"] == "ERROR"]
    assert {each["name"] for each in failed} == {"POST /v1/chat/completions", "prefill"}
    assert {each["attributes"]["error.type"] for each in failed} == {"unavailable"}
    assert len(failed) == 2, "a client's own fault is no error of the server"
