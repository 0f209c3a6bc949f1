"""The metrics are well named, all there, and what Prometheus reads is what was counted."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest
from figures import figures
from prometheus_client.parser import text_string_to_metric_families

from mmplane.core.buckets import Buckets
from mmplane.core.plan import Work
from mmplane.core.records import Modality
from mmplane.core.stages import PHASES, SUMS, Span
from mmplane.delivery.names import DELIVERIES
from mmplane.observe.exposition import Metric, exposition
from mmplane.observe.journal import Journal
from mmplane.observe.metrics import METRICS
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
    samples = Snapshot.of(exposition(figures(), METRICS).decode(), 0.0).samples
    for metric in METRICS:
        assert samples.get(f"{metric.name}_count" if metric.kind == "histogram" else metric.name), metric.name


def test_a_server_that_has_done_nothing_has_metrics() -> None:
    idle = figures(attached=False)
    text = exposition(replace(idle, counts={}, readings={}), METRICS).decode()
    assert text.count("# TYPE") == len(METRICS)


def test_histograms_are_cumulative() -> None:
    snapshot = Snapshot.of(exposition(figures(10), METRICS).decode(), 0.0)
    buckets = snapshot.by("le", "mmplane_request_seconds_bucket")
    assert (buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (0, 10, 10)
    assert snapshot.sum("mmplane_request_seconds_count", outcome="answered") == 10
    assert snapshot.sum("mmplane_request_seconds_sum") == pytest.approx(2.0)
    assert snapshot.sum("mmplane_stage_seconds_count", stage="decode", outcome="answered") == 10


def test_values_are_those_that_were_counted() -> None:
    snapshot = Snapshot.of(exposition(figures(10), METRICS).decode(), 0.0)
    assert snapshot.by("phase", "mmplane_requests_in_phase")["generate"] == 4
    assert snapshot.by("state", "mmplane_arena_bytes", region="1")["quarantined"] == 2**20
    assert snapshot.by("rank", "mmplane_plan_number") == {"0": 110, "1": 103}
    assert snapshot.by("delivery", "mmplane_delivery_share") == {"leader": 0.25, "arena": 0.75}
    assert snapshot.sum("mmplane_request_failures_total", code="overloaded", phase="queue") == 2
    assert snapshot.by("role", "mmplane_restarts_total")["worker"] == 2
    assert snapshot.by("rank", "mmplane_process_cpu_seconds_total", role="rank") == {"0": 2.5, "1": 1.5}
    assert snapshot.sum("mmplane_process_cpu_seconds_total", role="supervisor", rank="") == 0.25
    assert snapshot.sum("mmplane_build_info", version="0.1.0", python="3.11.2") == 1
    assert snapshot.sum("mmplane_model_info", model="tiny", dtype="float32", tp="2") == 1
    assert snapshot.by("kind", "mmplane_process_resident_bytes", role="rank") == {
        "private": 300 * 2**20,
        "shared": 2**26,
    }
    assert snapshot.sum("mmplane_rank_kv_tokens") / snapshot.sum("mmplane_rank_kv_capacity_tokens") == 0.125
    assert snapshot.sum("mmplane_inter_token_seconds_count") == 70


SERIES_MAX = 3500
"""With eight ranks and no tenants. There were 22,034 of `mmplane_stage_seconds` alone."""


def test_no_traffic_makes_more_series_than_a_scrape_can_bear() -> None:
    """Every modality, delivery and stage with every way to end, at every phase, with many codes."""
    journal = Journal()
    mixtures = [[], *([each] for each in get_args(Modality)), list(get_args(Modality))]
    for kinds in mixtures:
        for delivery in (*DELIVERIES, "none"):
            for status in (200, 400, 499, 503):
                for number, phase in enumerate(PHASES):
                    journey = journal.begin()
                    journey.asked(kinds)
                    journey.delivery = delivery
                    journey.add([Span(stage, "worker 1", 1.0, 0.001) for stage in SUMS["materialise"]])
                    journey.enter("hold")
                    journey.heard(tuple(Work(1, 5.0, 9.0) for _ in range(8)), None)
                    journey.enter(phase)
                    journal.end(journey, status, f"code_{number}")
    buckets = Buckets()
    counted = figures()
    readings = counted.readings | journal.readings() | {"latency": {(name,): buckets.reading() for name in DELIVERIES}}
    readings |= {name: {(str(rank),): buckets.reading() for rank in range(8)} for name in ("stalls", "broadcasts")}
    text = exposition(replace(counted, counts=journal.counts(), readings=readings), METRICS).decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert {labels[0] for labels in journal.readings()["stages"]} >= set(SUMS["materialise"])
    assert len(samples) == len(set(samples)) < SERIES_MAX


def test_prometheus_reads_it() -> None:
    """By its own parser: names, labels with quotes in them, and values."""
    odd = replace(figures(), counts={"failures": {('a "code"\\\nof two lines', "queue"): 2}})
    families = {family.name: family for family in text_string_to_metric_families(exposition(odd, METRICS).decode())}
    assert {metric.name.removesuffix("_total") for metric in METRICS} == set(families)
    (failure,) = families["mmplane_request_failures"].samples
    assert failure.labels == {"code": 'a "code"\\\nof two lines', "phase": "queue"}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
