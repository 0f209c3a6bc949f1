"""What a live server's `/metrics` says, read by Prometheus' own parser."""

from __future__ import annotations

from collections import Counter
from typing import Any

from live import Live
from prometheus_client.parser import text_string_to_metric_families

from polling import until

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scrape(live: Live) -> Samples:
    """Values by name of sample and labels."""
    samples: Samples = {}
    for family in text_string_to_metric_families(live.http.get("/metrics").raise_for_status().text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def stage_seconds(samples: Samples, **labels: str) -> Counter[str]:
    """Seconds by stage, of requests with these labels."""
    seconds: Counter[str] = Counter()
    for named, value in samples.get("mmplane_stage_seconds_sum", {}).items():
        found = dict(named)
        if labels.items() <= found.items():
            seconds[found["stage"]] += value
    return seconds


def answered(samples: Samples) -> float:
    """Requests that were answered and counted."""
    named = samples.get("mmplane_request_seconds_count", {}).items()
    return sum(value for labels, value in named if ("outcome", "answered") in labels)


def stages_moved_by(live: Live, request: Any, **labels: str) -> Counter[str]:
    """By how many seconds each stage's histogram moves when `request()` is answered."""
    before = scrape(live)
    request()
    # A request is counted when its last byte has left, which its client may see earlier.
    after = until(lambda: (now := scrape(live)) and answered(now) > answered(before) and now, 60, "it is counted")
    moved = stage_seconds(after, **labels)
    moved.subtract(stage_seconds(before, **labels))
    return moved
