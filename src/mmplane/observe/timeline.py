"""The timeline of a request that has ended, as JSON: names and times of ours, and nothing that a client wrote. Pure."""

from __future__ import annotations

from typing import Any

from mmplane.observe.journey import Journey


def timeline(journey: Journey) -> dict[str, Any]:
    """What it was, how it went, and its spans: stage, process, and milliseconds from the request's start, and long."""
    return {
        "id": f"{journey.request_id:x}",
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
        "spans": [
            [span.stage, span.process, _ms(span.began_s - journey.began_s), _ms(span.seconds)] for span in journey.spans
        ],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
