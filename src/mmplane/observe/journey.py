"""A journey: one request's way through its stages, from its first byte to its last.

The front end moves it from phase to phase; what workers and ranks measured is added as they report it. All of it costs
a few hundred nanoseconds for each stage; labels, histograms and traces wait until the request has ended.
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
    """Where one request is, and what it has behind it. Times are CLOCK_MONOTONIC's, which `time.perf_counter` reads."""

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
        """`gaps` counts the time between two tokens of a sample, of all journeys together."""
        self._gaps = gaps if gaps is not None else Buckets()
        self._drawn_s: dict[int, float] = {}
        """When each sample's last token came."""
        self.began_s = self._since_s = time.perf_counter()
        self.wall_s = time.time()
        self.first_token_s = 0.0
        """When the first token came; 0 before that."""
        self.ended_s = 0.0
        self.phase = PHASES[0]
        self.seconds: dict[str, float] = {}
        """By stage and phase, of all items together."""
        self.spans: list[Span] = []
        """What happened when, and in which process."""
        self.works: tuple[Work, ...] = ()
        """What each rank did."""
        self.tenant = ""
        """Who asks, by the keyring; everybody is the one without a name where there are no keys."""
        self.request_id = 0
        """What the ranks call it."""
        self.name = ""
        """What it is called everywhere else."""
        self.modality = "unknown"
        self.delivery = "none"
        self.items = 0
        self.hits = 0
        self.embedded = 0
        """Items whose embeddings the ranks had."""
        self.needless = 0
        """Those of them whose features were made all the same."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.status = 0
        self.code = ""
        """What it failed of, if it did."""
        self.timeline: msgspec.Raw | None = None
        """What the status page shows of it, once it was asked for."""
        self.span: Any = None
        """Its own span, when traces are on, and what its answer's headers say of that."""
        self.headers: list[tuple[bytes, bytes]] = []

    def enter(self, phase: str, at_s: float | None = None) -> None:
        """The phase before is over, now or since `at_s`."""
        self._leave(self._past_s(at_s))
        self.phase = phase

    def drew(self, sample: int) -> None:
        """A token of this sample has come."""
        now_s = time.perf_counter()
        before_s = self._drawn_s.get(sample)
        if before_s is not None:
            self._gaps.add(now_s - before_s)
        elif not self._drawn_s:
            self.first_token_s = now_s
        self._drawn_s[sample] = now_s

    def add(self, spans: Sequence[Span]) -> None:
        """What others measured."""
        self.spans += spans
        for span in spans:
            self.seconds[span.stage] = self.seconds.get(span.stage, 0.0) + span.seconds

    def asked(self, modalities: Sequence[str]) -> None:
        """What items the request has."""
        self.items = len(modalities)
        kinds = set(modalities)
        self.modality = "text" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"

    def heard(self, works: tuple[Work, ...], admitted_s: float | None) -> None:
        """The ranks have answered: all hold the request since `admitted_s`, or it failed."""
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
        """It is over."""
        self.ended_s = time.perf_counter()
        self._leave(self.ended_s)
        self.status, self.code = status, code

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds by stage and phase, of those that are over."""
        return {stage: round(seconds * 1000, 3) for stage, seconds in self.seconds.items()}

    def _past_s(self, at_s: float | None) -> float:
        """Now, or `at_s`, which another process said, if that can be: within the phase."""
        now_s = time.perf_counter()
        return now_s if at_s is None else min(now_s, max(self._since_s, at_s))

    def _leave(self, at_s: float) -> None:
        seconds = at_s - self._since_s
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + seconds
        self.spans.append(Span(self.phase, FRONT_END, self._since_s, seconds))
        self._since_s = at_s


def _busy_s(works: Sequence[Work]) -> float:
    """From when the first rank began with the request until the last held it."""
    if not works:
        return 0.0
    began_s = min(work.began_s for work in works)
    return max(work.began_s + (work.deliver_ms + work.encode_ms) / 1000 for work in works) - began_s


def _spans(rank: int, work: Work) -> list[Span]:
    """One rank's. What it made it made while the features were on their way."""
    process = f"rank {rank}"
    deliver_s, decode_s, made_s = work.deliver_ms / 1000, work.decode_ms / 1000, work.materialise_ms / 1000
    spans = [Span("deliver", process, work.began_s, deliver_s)]
    if work.materialised:
        since_s = max(work.began_s, work.made_s)
        spans.append(Span("decode", process, since_s, decode_s))
        spans.append(Span("transform", process, since_s + decode_s, made_s - decode_s))
    return [*spans, Span("encode", process, work.began_s + deliver_s, work.encode_ms / 1000)]
