"""From turns to rows: percentiles, medians with spread, CPU without the digests, no figures where errors are."""

from __future__ import annotations

import pytest
from bench_run import LABEL, MEMORY, memory, sample, trace, turn
from hypothesis import given
from hypothesis import strategies as st

from mmplane.bench.run.figures import inter_token_ms, percentile, row, spread

CONTRACT = (
    "delivery", "workload", "tp", "requests", "concurrency", "rate", "runner", "errors", "qps", "latency_ms",
    "inter_token_ms", "cpu_s_per_request", "materialisations", "materialise_ms", "deliver_ms", "loop_stall_ms",
    "bytes_written_per_request", "peak_bytes",
)  # fmt: skip


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.floats(0, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < max(1, share * len(values))


def test_nothing_has_no_percentile_and_no_spread() -> None:
    assert percentile([], 0.5) is None
    assert spread([]) == {"median": None, "min": None, "max": None}


def test_a_row_has_every_field_of_the_contract() -> None:
    found = row(LABEL, [turn([sample(0, 100.0)])], MEMORY, MEMORY[0])
    assert not [name for name in CONTRACT if name not in found]
    assert sorted(found["latency_ms"]) == ["max", "mean", "p50", "p99"]
    assert sorted(found["cpu_s_per_request"]) == ["frontend", "rank", "total", "worker"]
    assert sorted(found["peak_bytes"]) == ["arena", "frontend", "rank", "total", "worker"]
    assert sorted(found["loop_stall_ms"]) == ["max", "p50", "p99"]


def test_rates_are_medians_of_turns_with_their_spread() -> None:
    samples = [sample(index, 100.0) for index in range(4)]
    found = row(LABEL, [turn(samples, wall_s=wall_s) for wall_s in (1.0, 2.0, 4.0)], MEMORY, MEMORY[0])
    assert found["qps"] == 2.0
    assert found["qps_spread"] == {"median": 2.0, "min": 1.0, "max": 4.0}
    assert (found["requests"], found["repetitions"], found["errors"]) == (12, 3, 0)


def test_cpu_is_by_role_and_without_the_digests() -> None:
    found = row(LABEL, [turn([sample(index, 100.0) for index in range(4)])], MEMORY, MEMORY[0])
    cpu_s = found["cpu_s_per_request"]
    assert cpu_s == pytest.approx({"frontend": 0.05, "worker": 0.25, "rank": 0.1, "total": 0.4})
    assert found["verify_cpu_s_per_request"] == pytest.approx(0.05)


def test_materialising_is_what_traces_and_ranks_say_together() -> None:
    found = row(LABEL, [turn([sample(0, 100.0)])], MEMORY, MEMORY[0])
    assert found["materialise_ms"] == {"p50": 10.0, "p99": 10.0}
    assert found["loop_stall_ms"]["p50"] == pytest.approx(1.0, rel=0.06)
    assert found["loop_stall_ms"]["p99"] == pytest.approx(1.0, rel=0.06)
    assert found["loop_stall_ms"]["max"] == pytest.approx(50.0, rel=0.06)


def test_what_ranks_made_is_counted_for_each_of_them() -> None:
    made = trace()
    made["stages_ms"] = {"fetch": 0.5}
    made["ranks"] = [{"materialised": 1, "materialise_ms": ms, "deliver_ms": ms + 3.0} for ms in (20.0, 30.0)]
    found = row(LABEL, [turn([sample(0, 100.0, trace=made)])], MEMORY, MEMORY[0])
    assert found["materialise_ms"] == {"p50": 20.0, "p99": 30.0}
    assert found["deliver_ms"] == {"p50": 3.0, "p99": 3.0}
    assert found["bytes_written_per_request"] == 2 * found["features_bytes_per_request"] == 2000


def test_a_known_item_is_written_by_nobody() -> None:
    found = row(LABEL, [turn([sample(0, 100.0, trace=trace(hit=True))])], MEMORY, MEMORY[0])
    assert found["bytes_written_per_request"] == 0
    assert found["deliver_ms"]["p50"] == 0.75


def test_memory_is_the_most_of_each_role_and_the_most_at_one_moment() -> None:
    samples = [memory(0.0, rank=900), memory(1.0, arena=4000, in_flight=4)]
    found = row(LABEL, [turn([sample(0, 1.0)])], samples, memory(0.0))
    assert found["peak_bytes"] == {"frontend": 100, "worker": 200, "rank": 900, "arena": 4000, "total": 4600}
    assert found["bytes_per_request_in_flight"] == 1000


@pytest.mark.parametrize("code", ["overloaded", "timeout"])
def test_a_run_with_errors_is_no_result(code: str) -> None:
    failed = sample(1, 5.0, status=503, code=code, trace=None)
    found = row(LABEL, [turn([sample(0, 100.0), failed])], MEMORY, MEMORY[0])
    assert (found["result"], found["errors"], found["error_codes"]) == (False, 1, {code: 1})
    assert "qps" not in found


def test_a_wrong_picture_is_no_result() -> None:
    found = row(LABEL, [turn([sample(0, 100.0)], wrong=("request 0: ...",))], MEMORY, MEMORY[0])
    assert (found["result"], found["errors"]) == (False, 1)


def test_inter_token_times_are_those_of_the_streams_beside_the_load() -> None:
    streams = sample(1, 1.0, token_s=(1.0, 1.02, 1.05), background=True, code="cancelled", trace=None)
    media = sample(0, 1.0, token_s=(2.0, 2.5))
    assert inter_token_ms([turn([media, streams])]) == pytest.approx([20.0, 30.0])
    assert inter_token_ms([turn([media])]) == pytest.approx([500.0])
    assert row(LABEL, [turn([media, streams])], MEMORY, MEMORY[0])["result"]


def test_the_stages_are_those_of_a_real_request() -> None:
    found = row(LABEL, [turn([sample(index, 100.0 + index) for index in range(9)])], MEMORY, MEMORY[0])
    assert found["stages_ms"]["p50"]["request"] == 4
    assert found["stages_ms"]["p99"]["request"] == 8
    assert found["stages_ms"]["p50"]["decode"] == 4.0
