"""Whether memory between loads is flat."""

from __future__ import annotations

from bench_run import memory

from mmplane.bench.run.soak import flatness


def test_level_memory_is_flat() -> None:
    found = flatness([memory(float(at), rank=1000 + at % 3) for at in range(40)])
    assert found["flat"]
    assert abs(found["growth_share"]) < 0.01


def test_a_leak_is_not() -> None:
    found = flatness([memory(float(at), rank=1000 + 10 * at) for at in range(40)])
    assert not found["flat"]
    assert round(found["growth_bytes_per_hour"]) == 36_000


def test_growth_while_warming_up_is_not_judged() -> None:
    assert flatness([memory(float(at), rank=min(1000, 100 * at)) for at in range(80)])["flat"]


def test_descriptors_count_too() -> None:
    assert not flatness([memory(float(at), descriptors=60 + at) for at in range(40)])["flat"]


def test_so_do_threads() -> None:
    assert not flatness([memory(float(at), threads=20 + at) for at in range(40)])["flat"]


def test_a_short_soak_says_nothing() -> None:
    found = flatness([memory(0.0)])
    assert (found["flat"], found["why"]) == (False, "too short to say")
