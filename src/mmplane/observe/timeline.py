"""The timeline of a request that has ended, as JSON: only names and times of the server, nothing from the client."""

from __future__ import annotations

from heapq import nlargest

import msgspec

from mmplane.core.stages import PHASES
from mmplane.observe.journey import FRONT_END, Journey

SPANS_MAX = 64
"""Maximum number of spans shown: the phases, and the longest of their parts. 128 items have six hundred."""


def timeline(journey: Journey) -> msgspec.Raw:
    """Return the request's result and its spans: stage, process, start in milliseconds, and duration in milliseconds.

    It is made when it is first asked for, which takes up to a millisecond: do not call it on an event loop.
    """
    if journey.timeline is None:
        journey.timeline = msgspec.Raw(_encoded(journey))
    return journey.timeline


def _encoded(journey: Journey) -> bytes:
    phases = [span for span in journey.spans if span.process == FRONT_END and span.stage in PHASES]
    parts = [span for span in journey.spans if not (span.process == FRONT_END and span.stage in PHASES)]
    shown = phases + nlargest(SPANS_MAX - len(phases), parts, key=lambda span: span.seconds)
    told = {
        "id": journey.name,
        "at_s": round(journey.wall_s, 3),
        "ms": _ms(journey.ended_s - journey.began_s),
        "status": journey.status,
        "code": journey.code,
        "modality": journey.modality,
        "delivery": journey.delivery,
        "items": journey.items,
        "cache_hits": journey.hits,
        "prompt_tokens": journey.prompt_tokens,
        "completion_tokens": journey.completion_tokens,
        "spans_left_out": len(journey.spans) - len(shown),
        "spans": [[span.stage, span.process, _ms(span.began_s - journey.began_s), _ms(span.seconds)] for span in shown],
    }
    return msgspec.json.encode(told)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
