"""The metrics are well named, all there, and what Prometheus reads is what was counted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from figures import figures

from mmplane.observe.metrics import METRICS, Metric, exposition
from mmplane.observe.snapshot import Snapshot

UNITS = ("_seconds", "_bytes")
"""Base units: no milliseconds, no megabytes."""


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"mmplane(_[a-z]+)+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert not re.search(r"_(ms|milliseconds|kib|mib|percent)\b|_(ms|milliseconds|mib)_", metric.name)
    if any(unit.strip("_") in metric.name.split("_") for unit in UNITS):
        assert metric.name.removesuffix("_total").endswith(UNITS), "the unit is last"
    assert not any(label in ("le", "quantile", "instance", "job") for label in metric.labels)


def test_no_name_is_used_twice() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_metric_has_samples() -> None:
    samples = Snapshot.of(exposition(figures()).decode(), 0.0).samples
    for metric in METRICS:
        assert samples.get(f"{metric.name}_count" if metric.kind == "histogram" else metric.name), metric.name


def test_a_server_that_has_done_nothing_has_metrics() -> None:
    idle = figures(attached=False)
    text = exposition(replace(idle, counts={}, readings={})).decode()
    assert text.count("# TYPE") == len(METRICS)


def test_histograms_are_cumulative() -> None:
    snapshot = Snapshot.of(exposition(figures(10)).decode(), 0.0)
    buckets = snapshot.by("le", "mmplane_request_seconds_bucket")
    assert (buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (0, 10, 10)
    assert snapshot.sum("mmplane_request_seconds_count", outcome="answered") == 10
    assert snapshot.sum("mmplane_request_seconds_sum") == pytest.approx(2.0)
    assert snapshot.sum("mmplane_stage_seconds_count", stage="decode", modality="image", delivery="arena") == 10


def test_values_are_those_that_were_counted() -> None:
    snapshot = Snapshot.of(exposition(figures(10)).decode(), 0.0)
    assert snapshot.by("phase", "mmplane_requests_in_phase")["generate"] == 4
    assert snapshot.by("state", "mmplane_arena_bytes", region="1")["quarantined"] == 2**20
    assert snapshot.by("rank", "mmplane_plan_number") == {"0": 110, "1": 103}
    assert snapshot.by("delivery", "mmplane_delivery_share") == {"leader": 0.25, "arena": 0.75}
    assert snapshot.sum("mmplane_request_failures_total", code="overloaded", phase="queue") == 2
    assert snapshot.by("role", "mmplane_restarts_total")["worker"] == 2
