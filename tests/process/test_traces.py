"""One request is one trace over front end, worker and all ranks; with traces off nothing of OpenTelemetry is loaded."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import Live, serving
from otlp import Received, Receiver, receiving
from pictures import noise, part, text

from mmplane.core.stages import PHASES
from polling import until

TP = 4
SLOW_MS = 1000
"""Longer than anything takes by itself on a busy machine."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(tiny_folder: Path, receiver: Receiver) -> Iterator[Live]:
    """Its model takes no time, so that on a busy machine no stage is slow by itself."""
    flags = ("--trace-to", receiver.url, "--fault-injection", "on", "--runner", "null")
    with serving(tiny_folder, *flags, tp=TP) as live:
        yield live


def ask(live: Live, content: Any, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": content}]} | fields
    return live.http.post("/v1/chat/completions", json=body, headers=headers)


def new_ids() -> tuple[str, str]:
    return secrets.token_hex(16), secrets.token_hex(8)


def trace_of(receiver: Receiver, trace_id: str) -> list[Received]:
    """All spans of a trace: its root is sent with the others or after them."""
    return until(lambda: (spans := receiver.of(trace_id)) and root_of(spans) and spans, 60, "the trace has come")


def root_of(spans: list[Received]) -> Received | None:
    return next((span for span in spans if span.name.startswith("POST")), None)


def test_one_trace_shows_the_front_end_a_worker_and_all_ranks(traced: Live, receiver: Receiver) -> None:
    trace_id, caller = new_ids()
    picture = [part(noise(81_001)), text("What is this?")]
    answer = ask(traced, picture, {"traceparent": f"00-{trace_id}-{caller}-01"})
    assert answer.status_code == 200
    spans = trace_of(receiver, trace_id)
    root = root_of(spans)
    assert root is not None
    assert root.parent_id == caller, "the caller's span is the parent"
    assert answer.headers["traceparent"] == f"00-{trace_id}-{root.span_id}-01"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["mmplane.modality"] == "image"
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    processes = {span.attributes["mmplane.process"] for span in spans if span is not root}
    workers = {process for process in processes if process.startswith("worker")}
    assert len(workers) == 1
    assert processes - workers == {"frontend", *(f"rank {rank}" for rank in range(TP))}
    assert {span.name for span in spans if span.parent_id == root.span_id} == set(PHASES)
    for rank in range(TP):
        named = {span.name: span for span in spans if span.attributes.get("mmplane.process") == f"rank {rank}"}
        assert set(named) == {"deliver", "encode"}
        assert all(by_id[span.parent_id].name == "hold" for span in named.values())
    (worker,) = workers
    made = [span for span in spans if span.attributes.get("mmplane.process") == worker]
    assert sorted(span.name for span in made) == ["decode", "transform"]
    assert {by_id[span.parent_id].name for span in made} == {"materialise"}


def test_children_lie_within_their_parents(traced: Live, receiver: Receiver) -> None:
    """All clocks are one: what a rank says of when it worked fits into when the front end waited for it."""
    trace_id, caller = new_ids()
    fault = {"point": "encode", "rank": TP - 1, "error": False, "delay_ms": SLOW_MS}
    request = [part(noise(81_002))]
    ask(traced, request, {"traceparent": f"00-{trace_id}-{caller}-01"}, mmplane={"fault": fault})
    spans = trace_of(receiver, trace_id)
    by_id = {span.span_id: span for span in spans}
    slack_ns = 1_000_000
    for span in spans:
        assert span.began_ns <= span.ended_ns
        if parent := by_id.get(span.parent_id):
            assert parent.began_ns - slack_ns <= span.began_ns, (span, parent)
            assert span.ended_ns <= parent.ended_ns + slack_ns, (span, parent)
    slow = [span for span in spans if span.ended_ns - span.began_ns > SLOW_MS * 1e6]
    assert {span.name for span in slow} == {"POST /v1/chat/completions", "hold", "encode"}
    assert [span.attributes["mmplane.process"] for span in slow if span.name == "encode"] == [f"rank {TP - 1}"]


def test_a_caller_that_does_not_sample_is_obeyed(traced: Live, receiver: Receiver) -> None:
    unsampled, caller = new_ids()
    answer = ask(traced, "Hi", {"traceparent": f"00-{unsampled}-{caller}-00"})
    assert answer.headers["traceparent"].startswith(f"00-{unsampled}-")
    assert answer.headers["traceparent"].endswith("-00")
    sampled, caller = new_ids()
    ask(traced, "Hi", {"traceparent": f"00-{sampled}-{caller}-01"})
    trace_of(receiver, sampled)
    assert receiver.of(unsampled) == []


@pytest.mark.parametrize("traceparent", [None, "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_without_a_caller_a_trace_begins_here(traceparent: str | None, traced: Live, receiver: Receiver) -> None:
    answer = ask(traced, "Hi", {"traceparent": traceparent} if traceparent else None)
    _, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
    assert (len(trace_id), len(span_id)) == (32, 16)
    assert int(flags, 16) & 1, "sampled"
    root = root_of(trace_of(receiver, trace_id))
    assert root is not None
    assert root.parent_id == ""
    assert root.span_id == span_id


def test_a_failure_is_marked_and_nothing_of_the_client_is_in_it(traced: Live, receiver: Receiver) -> None:
    trace_id, caller = new_ids()
    fault = {"point": "encode", "rank": 0, "error": True}
    secret = "sesame-opens-the-door"
    answer = ask(
        traced,
        [part(noise(81_003)), text(secret)],
        {"traceparent": f"00-{trace_id}-{caller}-01"},
        mmplane={"fault": fault},
        user=secret,
    )
    assert answer.status_code == 500
    assert answer.headers["traceparent"].startswith(f"00-{trace_id}-")
    root = root_of(trace_of(receiver, trace_id))
    assert root is not None
    assert root.failed
    assert root.attributes["error.type"] == "internal_error"
    assert secret not in str(receiver.all())


def test_a_streamed_answer_has_the_header_too(traced: Live, receiver: Receiver) -> None:
    trace_id, caller = new_ids()
    answer = ask(traced, "Hi", {"traceparent": f"00-{trace_id}-{caller}-01"}, stream=True)
    assert answer.headers["traceparent"].startswith(f"00-{trace_id}-")
    assert "[DONE]" in answer.text
    trace_of(receiver, trace_id)


@contextmanager
def hosting(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """A host of one file: its address, and the `traceparent` of each request for it."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["traceparent"])
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}/picture.png", seen
        finally:
            host.shutdown()
            thread.join()


def test_what_is_fetched_carries_the_trace(tiny_folder: Path, tmp_path: Path) -> None:
    """And traces can go to a file; what is left is written when the server drains."""
    lines = tmp_path / "traces.jsonl"
    picture = noise(81_004)
    with hosting(picture) as (url, traceparents):
        flags = ("--trace-to", f"file:{lines}", "--fetch-host", "127.0.0.1")
        with serving(tiny_folder, *flags) as live:
            answer = ask(live, [{"type": "image_url", "image_url": {"url": url}}])
            assert answer.status_code == 200, answer.text
            live.signal(signal.SIGTERM)
            live.wait()
    assert traceparents == [answer.headers["traceparent"]]
    spans = [json.loads(line) for line in lines.read_text().splitlines()]
    trace_id = answer.headers["traceparent"].split("-")[1]
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{trace_id}"}
    assert {span["attributes"].get("mmplane.process") for span in spans} > {"rank 0", "rank 1"}


def test_off_is_off(server: Live) -> None:
    answer = ask(server, "Hi", {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
    assert "traceparent" not in answer.headers


@pytest.mark.parametrize("to", ["nowhere", "ftp://host/"])
def test_a_place_that_is_none_is_refused(to: str, tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "mmplane", "serve", "--model", str(tiny_folder), "--port", "0", "--trace-to", to]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "mmplane: --trace-to: give an http:// or https:// URL" in run.stderr
