"""Predictions: every line with a number of the analyses is there, and is judged by the right rows."""

from __future__ import annotations

from typing import Any

import pytest
from bench_run import row_of, run_of

from mmplane.bench.report.analyses import PREDICTIONS
from mmplane.bench.report.predictions import Verdict, judged, pair
from mmplane.config import DELIVERY_NAMES

LINES = (
    "-75 % at TP=4", "80 -> 20 ms", "100 -> 35 ms", "+17 %", "2,000 -> 500 ms", "500 -> 750 ms", "500 -> 650 ms",
    "2 -> 1.3 req/s", "2 -> 1.7 req/s", "below 70 %", "500 -> 520 ms", "500 -> 50 ms", "2 to 3 x", "1.5 to 2 x",
    "3 to 5 x", "572 -> 210 ms", "+6 %", "+10 %", "below 60 %", "below 600 ms", "above 1.8 req/s", "1.5 req/s",
    "99.9 %", "can pass 500 ms", "no leak",
)  # fmt: skip


def verdict(verdicts: list[Verdict], analysis: str, what: str) -> Verdict:
    (found,) = [each for each in verdicts if each.analysis == analysis and what in each.what]
    return found


@pytest.mark.parametrize("line", LINES)
def test_every_number_of_the_analyses_is_predicted(line: str) -> None:
    assert any(line in each.predicted for each in judged(run_of([])))


def test_predictions_are_about_deliveries_that_exist() -> None:
    assert {each.delivery for each in PREDICTIONS} | {each.against for each in PREDICTIONS} <= set(DELIVERY_NAMES)


def test_what_was_not_measured_says_so() -> None:
    assert all(each.agrees is None and "not measured" in each.measured for each in judged(run_of([])))


def test_a_prediction_that_comes_true_needs_no_reason() -> None:
    rows = [row_of("original", slower=4.0), row_of("leader", slower=1.0)]
    found = verdict(judged(run_of(rows)), "incident", "CPU of the commit")
    assert (found.agrees, found.why) == (True, "")
    assert found.measured == "-75 % (photo, TP=2)"


def test_a_prediction_that_does_not_says_why_with_figures() -> None:
    rows = [row_of("original", slower=1.0), row_of("leader", slower=1.0)]
    found = verdict(judged(run_of(rows)), "incident", "CPU of the commit")
    assert found.agrees is False
    assert "ms of CPU" in found.why


def test_rows_of_other_paces_are_not_compared() -> None:
    rows = [row_of("original"), row_of("leader", concurrency=16)]
    assert pair(rows, "leader", "original") is None


def test_the_incidents_own_workload_is_preferred() -> None:
    rows = [row_of(name, workload=workload, tp=tp) for name in ("original", "leader")
            for workload, tp in (("photo", 2), ("video-2mb", 4), ("4k", 4))]  # fmt: skip
    both = pair(rows, "leader", "original")
    assert both is not None
    assert [(row["workload"], row["tp"]) for row in both] == [("video-2mb", 4)] * 2


def test_a_prediction_about_ten_at_once_looks_at_ten_at_once() -> None:
    rows = [row_of(name, concurrency=at_once) for name in ("leader", "leader-batch") for at_once in (8, 10)]
    assert verdict(judged(run_of(rows)), "D1", "batches of 10").agrees is False
    assert verdict(judged(run_of(rows[::2])), "D1", "batches of 10").agrees is None


def test_serialisation_is_judged_by_what_was_pickled() -> None:
    def pickled(raw_ms: float) -> dict[str, Any]:
        raw = {"bytes": 1000, "dumps_ms": raw_ms / 2, "loads_ms": raw_ms / 2}
        return {"raw": raw, "finished": {"bytes": 10_000_000, "dumps_ms": 6.0, "loads_ms": 4.0}}

    assert verdict(judged(run_of([], pickled=pickled(1.0))), "C1", "serialising").agrees is True
    disagreeing = verdict(judged(run_of([], pickled=pickled(0.01))), "C1", "serialising")
    assert disagreeing.agrees is False
    assert disagreeing.why


@pytest.mark.parametrize("flat", [True, False])
def test_memory_is_judged_by_the_soak(flat: bool) -> None:
    soak = {"growth_share": 0.001, "seconds": 1800, "flat": flat, "samples": []}
    assert verdict(judged(run_of([], soak=soak)), "D1", "memory over time").agrees is flat
