"""The timeline of a request that has ended, as JSON: names and times of ours, and nothing that a client wrote."""

from __future__ import annotations

from heapq import nlargest

import msgspec

from mmplane.core.stages import PHASES
from mmplane.observe.journey import FRONT_END, Journey

SPANS_MAX = 64
"""So many are shown: the phases, and of what they consist of the longest. 128 items have six hundred."""


def timeline(journey: Journey) -> msgspec.Raw:
    """What it was, how it went, and its spans: stage, process, and milliseconds from the request's start, and long.

    Made when it is first asked for; that takes up to a millisecond: not for an event loop.
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
