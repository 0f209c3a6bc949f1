"""The targets of `arena`, judged by rows that were made up."""

from __future__ import annotations

from typing import Any

from bench_run import row_of, run_of

from mmplane.bench.judge.joined import joined
from mmplane.bench.judge.targets import Judged, targets


def judged(*rows: dict[str, Any], **more: Any) -> dict[str, Judged]:
    return {each.what: each for each in targets(run_of(list(rows), **more))}


def test_nothing_is_judged_that_was_not_measured() -> None:
    found = judged()
    assert found
    assert {each.met for each in found.values()} == {None}
    elsewhere = judged(row_of("arena", tp=4, concurrency=10), row_of("leader", tp=4, concurrency=10))
    assert elsewhere["throughput against `leader`, photo at TP=4"].met is None


def test_rows_of_a_busy_machine_are_not_judged() -> None:
    place = {"workload": "photo", "tp": 4, "concurrency": 96, "rate": None, "runner": "null"}
    busy = [row_of(name, **place, others_cores=0.2) for name in ("arena", "leader")]
    assert judged(*busy)["throughput against `leader`, photo at TP=4"].met is None


def test_ratios_are_those_of_one_group() -> None:
    place = {"workload": "photo", "tp": 4, "concurrency": 96, "rate": None, "runner": "null"}
    ours = row_of("arena", **place) | {"qps": 60.0}
    for rate, met in ((12.0, True), (12.1, False)):
        theirs = row_of("leader", **place) | {"qps": rate}
        assert judged(ours, theirs)["throughput against `leader`, photo at TP=4"].met is met
    no_result = {"delivery": "leader", "result": False, **place}
    assert judged(ours, no_result)["throughput against `leader`, photo at TP=4"].met is None


def test_with_a_core_for_each_rank_the_best_baseline_is_what_counts() -> None:
    place = {"workload": "video-2mb", "tp": 2, "concurrency": 1, "setting": "cores"}
    rows = [row_of("arena", **place), row_of("leader", slower=2.0, **place), row_of("original", slower=1.5, **place)]
    found = judged(*rows)
    cpu = found["CPU of a request against the best baseline, video-2mb at TP = cores"]
    assert (cpu.met, cpu.measured) == (False, "0.67 x (0.16 : 0.24 of original)")
    assert found["mean latency against the best baseline, video-2mb at TP = cores"].met is True
    assert found["mean latency against the best baseline, photo at TP = cores"].met is None


def test_a_line_that_is_not_met_says_by_how_much() -> None:
    place = {"workload": "mixed", "tp": 4, "concurrency": None, "rate": 5.0, "runner": "sim:20"}
    beside = row_of("arena", **place) | {"inter_token_ms": {"p50": 20.0, "p99": 30.0}}
    alone = row_of("arena", **place | {"workload": "text"}) | {"inter_token_ms": {"p50": 20.0, "p99": 20.0}}
    other_ranks = alone | {"tp": 2}
    (line,) = [each for each in targets(run_of([beside, other_ranks, alone])) if "between tokens" in each.what]
    assert line.met is False
    assert line.measured.startswith("+50.0 %")


def test_the_decoding_of_the_same_run_bounds_the_rate() -> None:
    place = {"workload": "video-2mb", "tp": 4, "concurrency": 10, "rate": None, "runner": "null"}
    ours = row_of("arena", **place) | {"qps": 4.6}
    decoding = [{"workload": "video-2mb", "decode_cpu_ms": 400.0}]
    line = judged(ours, decoding=decoding)["throughput of what decoding allows, video-2mb at TP=4"]
    assert line.met
    assert line.measured.startswith("92 %: 4.6 of 5 clips")


def test_the_decoding_of_another_run_says_nothing_about_the_rate() -> None:
    place = {"workload": "video-2mb", "tp": 4, "concurrency": 10, "rate": None, "runner": "null"}
    rated, decoded = run_of([row_of("arena", **place)]), run_of([])
    decoded["environment"] = decoded["environment"] | {"at": "2026-01-02T00:00:00+00:00"}
    decoded["decoding"] = [{"workload": "video-2mb", "decode_cpu_ms": 400.0}]
    (line,) = [each for each in targets(joined([decoded, rated])) if "decoding allows" in each.what]
    assert line.met is None
    rated["decoding"] = decoded["decoding"]
    (line,) = [each for each in targets(joined([decoded, rated])) if "decoding allows" in each.what]
    assert line.met is not None
