"""Traces: one for each request, over front end, worker and all ranks, to an OTLP receiver or a file.

Workers and ranks export nothing: they say when they did what in answers that they send anyway, and once the request has
ended the front end makes spans of it, with those times. A thread does that, so the event loop's part is one span for
each request. This module is imported only with `--trace-to`, and nothing else knows of OpenTelemetry.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span as OpenSpan
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mmplane import __version__
from mmplane.core.stages import PHASES, SUMS, Span
from mmplane.observe.context import OUTGOING
from mmplane.observe.journey import FRONT_END, Journey

log = logging.getLogger("mmplane")

WAITING_MAX = 1024
"""Requests whose spans are still to be made; more are dropped and counted."""
SPANS_MAX = 16384
EVERY_MS = 1000
FLUSH_MS = 2000
PARENT = {stage: phase for phase, stages in SUMS.items() for stage in stages}


class Tracer:
    """Makes spans of journeys. `to` is an OTLP receiver's URL, or `file:PATH` for a JSON line each."""

    def __init__(self, to: str) -> None:
        resource = Resource.create({SERVICE_NAME: "mmplane", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(_exporter(to), max_queue_size=SPANS_MAX, schedule_delay_millis=EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("mmplane", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._thread = ThreadPoolExecutor(1, "traces")
        self._waiting = threading.Semaphore(WAITING_MAX)
        self.dropped = 0

    def begin(self, journey: Journey, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Start the request's own span, below the caller's when it names one, and say so in the answer's headers."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
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
        """The request has ended: its spans are made soon. Never waits."""
        if not journey.span.is_recording():
            return
        if not self._waiting.acquire(blocking=False):
            self.dropped += 1
            return
        self._thread.submit(self._emit, journey)

    def flush(self) -> None:
        """Send what there is; takes up to `FLUSH_MS`. Not for an event loop."""
        self._thread.submit(lambda: None).result(FLUSH_MS / 1000)
        self._provider.force_flush(FLUSH_MS)

    def _emit(self, journey: Journey) -> None:
        try:
            self._make(journey)
        except Exception:
            log.exception("a request's trace could not be made")
        finally:
            self._waiting.release()

    def _make(self, journey: Journey) -> None:
        """All spans, parents first: phases below the request, what they consist of below them."""
        made: dict[tuple[str, str], OpenSpan] = {}
        for span in sorted(journey.spans, key=_generation):
            made[span.stage, span.process] = self._one(journey, span, made.get(_above(span), journey.span))
        root: OpenSpan = journey.span
        root.set_attributes(_attributes(journey))
        if journey.status >= 500:
            root.set_status(StatusCode.ERROR, journey.code)
        root.end(_ns(journey, journey.ended_s))

    def _one(self, journey: Journey, span: Span, parent: OpenSpan) -> OpenSpan:
        made = self._tracer.start_span(
            span.stage,
            set_span_in_context(parent),
            attributes={"mmplane.process": span.process},
            start_time=_ns(journey, span.began_s),
        )
        made.end(_ns(journey, span.began_s + span.seconds))
        return made


def _generation(span: Span) -> int:
    """Parents have lower numbers than their children."""
    if span.stage in PHASES:
        return 0
    return 1 if span.stage == "deliver" else 2


def _above(span: Span) -> tuple[str, str]:
    """Stage and process of a span's parent; a phase's is the request, which is neither."""
    if span.stage in ("decode", "transform") and span.process.startswith("rank"):
        return "deliver", span.process
    return PARENT.get(span.stage, ""), FRONT_END


def _ns(journey: Journey, at_s: float) -> int:
    """A time of CLOCK_MONOTONIC as nanoseconds since 1970, by what the wall said when the request came."""
    return round((journey.wall_s + at_s - journey.began_s) * 1e9)


def _attributes(journey: Journey) -> dict[str, str | int]:
    """Figures and names of ours: nothing that the client wrote."""
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": journey.status,
        "mmplane.request_id": str(journey.request_id),
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
