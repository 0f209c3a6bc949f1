"""A journey: one request's way through its stages, from its first byte to its last.

The front end moves it from phase to phase. Measurements of workers and ranks are added as they report them. This costs
a few hundred nanoseconds per stage; labels, histograms and traces are made after the request has ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mmplane.core.buckets import Buckets
from mmplane.core.plan import Work
from mmplane.core.stages import PHASES, Span

FRONT_END = "frontend"


class Journey:
    """Where one request is, and its history. Times are CLOCK_MONOTONIC's, which `time.perf_counter` reads."""

    __slots__ = (
        "_drawn_s",
        "_gaps",
        "_since_s",
        "began_s",
        "code",
        "completion_tokens",
        "delivery",
        "embedded",
        "ended_s",
        "first_token_s",
        "headers",
        "hits",
        "items",
        "modality",
        "name",
        "needless",
        "phase",
        "prompt_tokens",
        "request_id",
        "seconds",
        "span",
        "spans",
        "status",
        "tenant",
        "timeline",
        "wall_s",
        "works",
    )

    def __init__(self, gaps: Buckets | None = None) -> None:
        """`gaps` counts the time between two tokens of a sample, for all journeys together."""
        self._gaps = gaps if gaps is not None else Buckets()
        self._drawn_s: dict[int, float] = {}
        """When each sample's last token arrived."""
        self.began_s = self._since_s = time.perf_counter()
        self.wall_s = time.time()
        self.first_token_s = 0.0
        """When the first token arrived; 0 before that."""
        self.ended_s = 0.0
        self.phase = PHASES[0]
        self.seconds: dict[str, float] = {}
        """Time by stage and phase, summed over all items."""
        self.spans: list[Span] = []
        """Stage, process, and time of each span."""
        self.works: tuple[Work, ...] = ()
        """The work of each rank."""
        self.tenant = ""
        """The tenant, by the keyring; without keys everybody is the tenant without a name."""
        self.request_id = 0
        """The request's number at the ranks."""
        self.name = ""
        """The request's id everywhere else."""
        self.modality = "unknown"
        self.delivery = "none"
        self.items = 0
        self.hits = 0
        self.embedded = 0
        """Items whose embeddings the ranks had cached."""
        self.needless = 0
        """Those of them whose features were made anyway."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.status = 0
        self.code = ""
        """The request's error, if it failed."""
        self.timeline: msgspec.Raw | None = None
        """The timeline for the status page, once it was asked for."""
        self.span: Any = None
        """The request's own span, if traces are on, and the answer's headers about it."""
        self.headers: list[tuple[bytes, bytes]] = []

    def enter(self, phase: str, at_s: float | None = None) -> None:
        """End the current phase, now or at `at_s`."""
        self._leave(self._past_s(at_s))
        self.phase = phase

    def drew(self, sample: int) -> None:
        """A token of this sample has arrived."""
        now_s = time.perf_counter()
        before_s = self._drawn_s.get(sample)
        if before_s is not None:
            self._gaps.add(now_s - before_s)
        elif not self._drawn_s:
            self.first_token_s = now_s
        self._drawn_s[sample] = now_s

    def add(self, spans: Sequence[Span]) -> None:
        """Add spans that other processes measured."""
        self.spans += spans
        for span in spans:
            self.seconds[span.stage] = self.seconds.get(span.stage, 0.0) + span.seconds

    def asked(self, modalities: Sequence[str]) -> None:
        """Record the request's items."""
        self.items = len(modalities)
        kinds = set(modalities)
        self.modality = "text" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"

    def heard(self, works: tuple[Work, ...], admitted_s: float | None) -> None:
        """The ranks have answered: all of them hold the request since `admitted_s`, or it failed."""
        if self.phase != "hold" or self.ended_s:
            return
        self.works = works
        self.seconds["admission"] = max(0.0, self._past_s(admitted_s) - self._since_s - _busy_s(works))
        if works:
            made_s = max(work.materialise_ms for work in works) / 1000
            self.seconds["deliver"] = max(0.0, max(work.deliver_ms for work in works) / 1000 - made_s)
            self.seconds["encode"] = max(work.encode_ms for work in works) / 1000
            if made_s:
                decode_s = max(work.decode_ms for work in works) / 1000
                self.seconds["decode"] = self.seconds.get("decode", 0.0) + decode_s
                self.seconds["transform"] = self.seconds.get("transform", 0.0) + max(0.0, made_s - decode_s)
        for rank, work in enumerate(works):
            self.spans += _spans(rank, work)
        if admitted_s is not None:
            self.enter("prefill", admitted_s)

    def end(self, status: int, code: str) -> None:
        """The request has ended."""
        self.ended_s = time.perf_counter()
        self._leave(self.ended_s)
        self.status, self.code = status, code

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds by stage and phase, for those that have ended."""
        return {stage: round(seconds * 1000, 3) for stage, seconds in self.seconds.items()}

    def _past_s(self, at_s: float | None) -> float:
        """Return `at_s`, which another process reported, limited to the current phase, or now."""
        now_s = time.perf_counter()
        return now_s if at_s is None else min(now_s, max(self._since_s, at_s))

    def _leave(self, at_s: float) -> None:
        seconds = at_s - self._since_s
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + seconds
        self.spans.append(Span(self.phase, FRONT_END, self._since_s, seconds))
        self._since_s = at_s


def _busy_s(works: Sequence[Work]) -> float:
    """From when the first rank started with the request until the last one held it."""
    if not works:
        return 0.0
    began_s = min(work.began_s for work in works)
    return max(work.began_s + (work.deliver_ms + work.encode_ms) / 1000 for work in works) - began_s


def _spans(rank: int, work: Work) -> list[Span]:
    """One rank's spans. It made features while it received the request."""
    process = f"rank {rank}"
    deliver_s, decode_s, made_s = work.deliver_ms / 1000, work.decode_ms / 1000, work.materialise_ms / 1000
    spans = [Span("deliver", process, work.began_s, deliver_s)]
    if work.materialised:
        since_s = max(work.began_s, work.made_s)
        spans.append(Span("decode", process, since_s, decode_s))
        spans.append(Span("transform", process, since_s + decode_s, made_s - decode_s))
    return [*spans, Span("encode", process, work.began_s + deliver_s, work.encode_ms / 1000)]
