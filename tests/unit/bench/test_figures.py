"""From turns to rows: percentiles, medians with spread, CPU without the digests, no figures where errors are."""

from __future__ import annotations

import msgspec
import pytest
from bench_run import LABEL, MEMORY, memory, sample, trace, turn
from hypothesis import given
from hypothesis import strategies as st

from mmplane.bench.run.figures import (
    busiest_thread,
    bytes_per_request_in_flight,
    cache_hit_rate,
    inter_token_ms,
    key_hit_rate,
    percentile,
    row,
    spread,
    summary,
)
from mmplane.bench.run.generator import Sample
from mmplane.bench.run.server import ROLES

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
    found = row(LABEL, [turn([sample(0, 100.0)])], MEMORY, MEMORY)
    assert not [name for name in CONTRACT if name not in found]
    assert sorted(found["latency_ms"]) == ["max", "mean", "p50", "p99"]
    assert set(found["cpu_s_per_request"]) == {*ROLES, "total"}
    assert set(found["peak_bytes"]) == {*ROLES, "arena", "arena_leased", "total", "total_leased"}
    assert sorted(found["loop_stall_ms"]) == ["max", "p50", "p99"]


def test_rates_are_medians_of_turns_with_their_spread() -> None:
    samples = [sample(index, 100.0) for index in range(4)]
    found = row(LABEL, [turn(samples, wall_s=wall_s) for wall_s in (1.0, 2.0, 4.0)], MEMORY, MEMORY)
    assert found["qps"] == 2.0
    assert found["qps_spread"] == {"median": 2.0, "min": 1.0, "max": 4.0}
    assert (found["requests"], found["repetitions"], found["errors"]) == (12, 3, 0)


def test_cpu_is_by_role_and_without_the_digests() -> None:
    found = row(LABEL, [turn([sample(index, 100.0) for index in range(4)])], MEMORY, MEMORY)
    cpu_s = found["cpu_s_per_request"]
    idle = {"parser": 0.0, "nursery": 0.0, "supervisor": 0.0}
    assert cpu_s == pytest.approx({"frontend": 0.05, "worker": 0.25, "rank": 0.1, "total": 0.4, **idle})
    assert found["cpu_s_by_process"] == {"frontend": 0.05, "rank 0": 0.1, "rank 1": 0.05, "worker 1": 0.25}
    assert found["verify_cpu_s_per_request"] == pytest.approx(0.05)


def test_materialising_is_what_traces_and_ranks_say_together() -> None:
    found = row(LABEL, [turn([sample(0, 100.0)])], MEMORY, MEMORY)
    assert found["materialise_ms"] == {"mean": 10.0, "p50": 10.0, "p99": 10.0}
    assert found["materialise_ms_by_rank"] == {rank: summary([]) for rank in "01"}
    assert found["loop_stall_ms"]["p50"] == pytest.approx(1.0, rel=0.06)
    assert found["loop_stall_ms"]["p99"] == pytest.approx(1.0, rel=0.06)
    assert found["loop_stall_ms"]["max"] == pytest.approx(50.0, rel=0.06)


def test_what_ranks_made_is_counted_for_each_of_them() -> None:
    made = trace()
    made["stages_ms"] = {"fetch": 0.5}
    made["ranks"] = [
        {"materialised": 1, "materialise_ms": ms, "deliver_ms": ms + 8.0, "hash_ms": 5.0} for ms in (20.0, 30.0)
    ]
    found = row(LABEL, [turn([sample(0, 100.0, trace=made)])], MEMORY, MEMORY)
    assert found["materialise_ms"] == {"mean": 25.0, "p50": 20.0, "p99": 30.0}
    assert found["materialise_ms_by_rank"]["1"] == {"mean": 30.0, "p50": 30.0, "p99": 30.0}
    assert found["deliver_ms"] == {"mean": 3.0, "p50": 3.0, "p99": 3.0}
    assert found["bytes_written_per_request"] == 2 * found["features_bytes_per_request"] == 2000


def test_a_known_item_is_written_by_nobody() -> None:
    found = row(LABEL, [turn([sample(0, 100.0, trace=trace(hit=True))])], MEMORY, MEMORY)
    assert found["bytes_written_per_request"] == 0
    assert found["deliver_ms"]["p50"] == 0.75


def test_memory_is_the_most_of_each_role_and_of_all_together() -> None:
    samples = [memory(0.0, rank=900, arena=8000), memory(1.0, arena=8000, arena_leased_max=4000, parser=50)]
    found = row(LABEL, [turn([sample(0, 1.0)])], samples, MEMORY)
    peak = {"frontend": 100, "worker": 200, "rank": 900, "parser": 50, "nursery": 0, "supervisor": 0}
    arena = {"arena": 8000, "arena_leased": 4000, "total": 9200, "total_leased": 5200}
    assert found["peak_bytes"] == peak | arena


def test_a_request_in_flight_takes_what_one_takes_alone() -> None:
    """Not the peak of many divided by all that wait: that would be less than the copy that each one needs."""
    alone = [memory(0.0, arena=8000), memory(1.0, rank=400, arena=8000, arena_leased_max=1000)]
    many = [memory(3.0, rank=700, arena=8000, arena_leased_max=3000, in_flight=10)]
    assert row(LABEL, [turn([sample(0, 1.0)])], many, alone)["bytes_per_request_in_flight"] == 1100
    assert bytes_per_request_in_flight(alone[:1]) is None


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = sample(0, 100.0, due_s=0.7)  # sent at 1.0, by a generator that was held up
    found = row(LABEL, [turn([late])], MEMORY, MEMORY)
    assert found["latency_ms"]["mean"] == found["latency_ms"]["p99"] == pytest.approx(400.0)


def test_the_busiest_thread_is_a_share_of_one_core() -> None:
    turns = [turn([sample(0, 1.0)], busiest_thread=("rank 0", busy_s)) for busy_s in (1.0, 1.998, 2.0)]
    assert busiest_thread(turns) == {"role": "rank", "process": "rank 0", "share": 0.999}


def test_keys_repeat_inside_a_turn_and_hits_are_what_caches_found() -> None:
    def shown(index: int, key: str, *, hit: bool) -> Sample:
        found = trace(hit=hit)
        found["items"] = [found["items"][0] | {"content_key": key}]
        return sample(index, 1.0, trace=found)

    first = [shown(0, "a", hit=False), shown(1, "a", hit=True), shown(2, "b", hit=False), shown(3, "a", hit=False)]
    other = [shown(0, "a", hit=False)] * 4  # as with another stamp: nothing is known from the turn before
    turns = [turn(first), turn(other)]
    assert key_hit_rate(turns) == (2 + 3) / 8
    assert cache_hit_rate([*first, *other]) == 1 / 8
    assert key_hit_rate([turn([sample(0, 1.0, trace=None)])]) is None


@pytest.mark.parametrize(("runner", "note"), [("null", "compute nothing"), ("sim:5", "5 ms"), ("hf", "")])
def test_a_row_says_what_its_runner_leaves_out(runner: str, note: str) -> None:
    found = row(msgspec.structs.replace(LABEL, runner=runner), [turn([sample(0, 1.0)])], MEMORY, MEMORY)
    assert (found["runner"], note in found["runner_note"], bool(note)) == (runner, True, bool(found["runner_note"]))


@pytest.mark.parametrize("code", ["overloaded", "timeout"])
def test_a_run_with_errors_is_no_result(code: str) -> None:
    failed = sample(1, 5.0, status=503, code=code, trace=None)
    found = row(LABEL, [turn([sample(0, 100.0), failed])], MEMORY, MEMORY)
    assert (found["result"], found["errors"], found["error_codes"]) == (False, 1, {code: 1})
    assert "qps" not in found


def test_an_open_loop_counts_what_was_refused() -> None:
    refused = sample(1, 5.0, status=503, code="overloaded", trace=None)
    too_late = sample(2, 120_000.0, code="overloaded", trace=None)
    taken = turn([sample(0, 100.0), refused, too_late], wall_s=2.0)
    found = row(msgspec.structs.replace(LABEL, concurrency=None, rate=5.0), [taken], MEMORY, MEMORY)
    assert (found["result"], found["requests"], found["refused"], found["errors"]) == (True, 3, 2, 0)
    assert found["qps"] == 0.5
    assert found["latency_ms"]["max"] == pytest.approx(100.0)
    only = row(msgspec.structs.replace(LABEL, rate=5.0), [turn([refused])], MEMORY, MEMORY)
    assert (only["result"], only["refused"]) == (False, 1)
    lost = turn([sample(0, 100.0), sample(1, 5.0, status=503, code="unavailable", trace=None)])
    assert not row(msgspec.structs.replace(LABEL, rate=5.0), [lost], MEMORY, MEMORY)["result"], "a process has ended"


def test_simulated_cpu_is_counted_for_each_materialisation_and_in_no_other_figure() -> None:
    simulated = msgspec.structs.replace(LABEL, simulated_ms=500)
    samples = [sample(index, 100.0) for index in range(4)]
    by_every_rank = row(simulated, [turn(samples, materialisations=16)], MEMORY, MEMORY)
    once = row(simulated, [turn(samples, materialisations=4)], MEMORY, MEMORY)
    assert by_every_rank["simulated_cpu_s_per_request"] == 2.0
    assert once["simulated_cpu_s_per_request"] == 0.5
    assert by_every_rank["cpu_s_per_request"] == once["cpu_s_per_request"]
    assert row(LABEL, [turn(samples)], MEMORY, MEMORY)["simulated_cpu_s_per_request"] == 0.0


def test_a_wrong_picture_is_no_result() -> None:
    found = row(LABEL, [turn([sample(0, 100.0)], wrong=("request 0: ...",))], MEMORY, MEMORY)
    assert (found["result"], found["errors"]) == (False, 1)


def test_inter_token_times_are_those_of_the_streams_beside_the_load() -> None:
    streams = sample(1, 1.0, token_s=(1.0, 1.02, 1.05), background=True, code="cancelled", trace=None)
    media = sample(0, 1.0, token_s=(2.0, 2.5))
    assert inter_token_ms([turn([media, streams])]) == pytest.approx([20.0, 30.0])
    assert inter_token_ms([turn([media])]) == pytest.approx([500.0])
    assert row(LABEL, [turn([media, streams])], MEMORY, MEMORY)["result"]


def test_the_stages_are_those_of_a_real_request() -> None:
    found = row(LABEL, [turn([sample(index, 100.0 + index) for index in range(9)])], MEMORY, MEMORY)
    assert found["stages_ms"]["p50"]["request"] == 4
    assert found["stages_ms"]["p99"]["request"] == 8
    assert found["stages_ms"]["p50"]["decode"] == 4.0
