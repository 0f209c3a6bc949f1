"""Traces: one per request, across front end, worker and all ranks, sent to an OTLP receiver or a file.

Workers and ranks export nothing. They report their times in answers that they send anyway, and when the request has
ended the front end makes spans of them. A thread does that, so the event loop only handles one span per request. This
module is imported only with `--trace-to`, and no other module knows OpenTelemetry.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as OpenSpan
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mmplane.core.stages import PHASES, SUMS, Span
from mmplane.observe.context import OUTGOING
from mmplane.observe.journey import FRONT_END, Journey

log = logging.getLogger("mmplane")

WAITING_MAX = 1024
"""Maximum requests whose spans have not been made yet; more are dropped and counted."""
TOGETHER_MAX = 32
"""Requests whose spans are sent together."""
EVERY_SECONDS = 1.0
FLUSH_SECONDS = 2.0
FAILED = 500
"""Statuses from here on are errors of the server, and set the span's status."""
PARENT = {stage: phase for phase, stages in SUMS.items() for stage in stages}


class Tracer:
    """Makes spans of journeys through `model`. `to` is an OTLP receiver's URL, or `file:PATH` for JSON lines."""

    def __init__(self, to: str, model: str) -> None:
        self._model = model
        resource = Resource.create({SERVICE_NAME: "mmplane"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._ended = _Ended()
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("mmplane")
        self._propagator = TraceContextTextMapPropagator()
        self._exporter = _exporter(to)
        self._unsent = 0
        """Journeys whose spans have been made but not sent."""
        self._entries: queue.Queue[Journey | threading.Event] = queue.Queue(WAITING_MAX)
        self._refused = 0
        self._lost = 0
        """Two counters, because two threads count."""
        threading.Thread(target=self._run, name="traces", daemon=True).start()

    def begin(self, journey: Journey, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Start the request's own span, below the caller's if it names one, and set the answer's headers.

        Only `traceparent` is read from the caller, because OpenTelemetry would copy `tracestate` into each span.
        """
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name == b"traceparent"}
        span = self._tracer.start_span(
            "POST /v1/chat/completions",
            self._propagator.extract(carrier),
            SpanKind.SERVER,
            start_time=round(journey.wall_s * 1e9),
        )
        outgoing: dict[str, str] = {}
        self._propagator.inject(outgoing, set_span_in_context(span))
        journey.span = span
        journey.headers = [(b"traceparent", outgoing["traceparent"].encode())]
        OUTGOING.set(outgoing["traceparent"])

    def end(self, journey: Journey) -> None:
        """The request has ended: its spans will be made soon. Never waits."""
        if not journey.span.is_recording():
            return
        try:
            self._entries.put_nowait(journey)
        except queue.Full:
            self._refused += 1

    @property
    def dropped(self) -> int:
        """Traces that could not be made or sent."""
        return self._refused + self._lost

    def flush(self) -> None:
        """Send everything; waits up to `FLUSH_SECONDS`. Do not call it on an event loop."""
        sent = threading.Event()
        with suppress(queue.Full):
            self._entries.put(sent, timeout=FLUSH_SECONDS)
            sent.wait(FLUSH_SECONDS)

    def _run(self) -> None:
        """The thread: makes spans of journeys, and sends them when there are many or the oldest is a second old."""
        due_s = 0.0
        while True:
            try:
                entry = self._entries.get(timeout=EVERY_SECONDS)
            except queue.Empty:
                entry = None
            if isinstance(entry, Journey):
                due_s = due_s if self._unsent else time.monotonic() + EVERY_SECONDS
                self._unsent += 1
                try:
                    self._make(entry)
                except Exception:
                    log.exception("a request's trace could not be made")
            if isinstance(entry, threading.Event) or self._unsent >= TOGETHER_MAX or time.monotonic() >= due_s:
                self._send()
            if isinstance(entry, threading.Event):
                entry.set()

    def _send(self) -> None:
        spans, self._ended.spans = self._ended.spans, []
        journeys, self._unsent = self._unsent, 0
        if spans and not self._sent(spans):
            self._lost += journeys

    def _sent(self, spans: list[ReadableSpan]) -> bool:
        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("traces could not be sent")
            return False

    def _make(self, journey: Journey) -> None:
        """Make all spans, parents first: phases below the request, and their parts below them."""
        made: dict[tuple[str, str], OpenSpan] = {}
        for span in sorted(journey.spans, key=_generation):
            made[span.stage, span.process] = self._one(journey, span, made.get(_above(span), journey.span))
        root: OpenSpan = journey.span
        root.set_attributes(_attributes(journey) | self._generative(journey))
        if journey.status >= FAILED:
            root.set_status(StatusCode.ERROR, journey.code)
        root.end(_ns(journey, journey.ended_s))

    def _generative(self, journey: Journey) -> dict[str, str | int | float]:
        """OpenTelemetry's attribute names for requests to models, which tools for such traces expect."""
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mmplane",
            "gen_ai.request.model": self._model,
            "gen_ai.response.model": self._model,
            "gen_ai.usage.input_tokens": journey.prompt_tokens,
            "gen_ai.usage.output_tokens": journey.completion_tokens,
        }
        if journey.first_token_s:
            attributes["gen_ai.latency.time_to_first_token"] = journey.first_token_s - journey.began_s
        return attributes

    def _one(self, journey: Journey, span: Span, parent: OpenSpan) -> OpenSpan:
        made = self._tracer.start_span(
            span.stage,
            set_span_in_context(parent),
            attributes={"mmplane.process": span.process},
            start_time=_ns(journey, span.began_s),
        )
        if journey.status >= FAILED and span.stage == journey.phase and span.process == FRONT_END:
            made.set_attribute("error.type", journey.code)
            made.set_status(StatusCode.ERROR, journey.code)
        made.end(_ns(journey, span.began_s + span.seconds))
        return made


class _Ended(SpanProcessor):
    """Collects ended spans. Every span ends in the thread that also takes them."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _generation(span: Span) -> int:
    """Parents have lower numbers than their children."""
    if span.stage in PHASES:
        return 0
    return 1 if span.stage == "deliver" else 2


def _above(span: Span) -> tuple[str, str]:
    """Stage and process of a span's parent; a phase's parent is the request, which has neither."""
    if span.stage in ("decode", "transform") and span.process.startswith("rank"):
        return "deliver", span.process
    return PARENT.get(span.stage, ""), FRONT_END


def _ns(journey: Journey, at_s: float) -> int:
    """Convert a time of CLOCK_MONOTONIC to nanoseconds since 1970, based on the wall clock when the request arrived."""
    return round((journey.wall_s + at_s - journey.began_s) * 1e9)


def _attributes(journey: Journey) -> dict[str, str | int | float]:
    """Attributes: figures and names of the server, and the request's id as the only text from the client."""
    attributes: dict[str, str | int | float] = {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": journey.status,
        "mmplane.request_id": journey.name,
        "mmplane.modality": journey.modality,
        "mmplane.delivery": journey.delivery,
        "mmplane.items": journey.items,
        "mmplane.cache_hits": journey.hits,
        "mmplane.prompt_tokens": journey.prompt_tokens,
        "mmplane.completion_tokens": journey.completion_tokens,
    }
    return attributes | ({"error.type": journey.code} if journey.code else {})


def _exporter(to: str) -> SpanExporter:
    if to.startswith("file:"):
        lines = Path(to.removeprefix("file:").removeprefix("//")).open("a", encoding="utf-8")  # noqa: SIM115
        return ConsoleSpanExporter(out=lines, formatter=lambda span: span.to_json(indent=None) + "\n")
    return OTLPSpanExporter(to if urlsplit(to).path.strip("/") else to.rstrip("/") + "/v1/traces")
