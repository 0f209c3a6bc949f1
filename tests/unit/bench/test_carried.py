"""Hashes and collectives of a turn, from two readings of a server's statistics."""

from __future__ import annotations

from typing import Any

import pytest

from mmplane.bench.run import carried
from mmplane.bench.run.carried import Collectives, Hashes, collectives, figures, hashes
from mutation import Mutant, check_it_is_killed


def loop(rank: int, batches: dict[int, int], ms: float, *, found: int = 0, kept: int = 0) -> dict[str, Any]:
    """A rank's report: its times are `ms`, twice and three times as much."""
    times = {"pickle_ms": ms, "wait_ms": 2 * ms, "transfer_ms": 3 * ms}
    results = {"results_max": kept, "results_found": found, "results_missed": 0}
    return {"rank": rank, "collectives": {"batches": [list(pair) for pair in batches.items()]} | times | results}


def reading(*loops: dict[str, Any], tallies: dict[str, int] | None = None) -> dict[str, Any]:
    by_name = {
        name: {"feature_hashes": count, "feature_hash_s": count * 0.02, "feature_hash_cpu_s": count * 0.01}
        for name, count in (tallies or {}).items()
    }
    return {"ranks": {"loops": list(loops)}, "delivery": {"by_name": by_name}}


def test_collectives_are_those_of_the_leader_and_times_those_of_all_ranks() -> None:
    before = reading(loop(0, {1: 5}, 10.0, found=5, kept=3), loop(1, {1: 5}, 10.0))
    after = reading(loop(0, {1: 7, 4: 1}, 30.0, found=11, kept=4), loop(1, {1: 7, 4: 1}, 70.0))
    assert collectives(before, after) == Collectives(
        batches={1: 2, 4: 1},
        pickle_ms=20.0 + 60.0,
        leader_wait_ms=120.0,
        transfer_ms=60.0 + 180.0,
        results_max=4,
        results_found=6,
    )


def test_a_server_that_has_not_reported_yet_counts_from_nothing() -> None:
    nothing = {"ranks": {}}
    assert collectives(nothing, nothing) == Collectives()
    assert collectives(nothing, reading(loop(0, {2: 1}, 1.0))).batches == {2: 1}


def test_hashes_are_those_of_all_deliveries() -> None:
    before, after = reading(tallies={"leader": 3}), reading(tallies={"leader": 5, "original": 8})
    found = hashes(before, after)
    assert (found.count, found.wall_s, found.cpu_s) == (10, pytest.approx(0.2), pytest.approx(0.1))


def test_figures_are_for_each_request() -> None:
    turns = [
        Collectives({1: 2, 4: 1}, 12.0, 24.0, 36.0, results_max=4, results_found=6),
        Collectives({6: 1}, 12.0, 24.0, 36.0, results_max=6, results_found=5, results_missed=1),
    ]
    found = figures([Hashes(24, 0.24, 0.12), Hashes(24, 0.24, 0.12)], turns, 12)
    assert found["feature_hashes"] == 4
    assert found["feature_hash_ms"] == pytest.approx(40.0)
    assert found["feature_hash_cpu_s_per_request"] == pytest.approx(0.02)
    assert found["collectives"] == 4 / 12
    assert found["batch_size"] == {"mean": 3.0, "max": 6}
    assert (found["pickle_ms_per_request"], found["leader_wait_ms_per_request"]) == (2.0, 4.0)
    assert found["transfer_ms_per_request"] == 6.0
    assert (found["cache_entries"], found["result_hit_rate"]) == (6, 11 / 12)


def test_without_collectives_there_is_no_batch_and_no_cache() -> None:
    found = figures([Hashes()], [Collectives(results_max=9)], 3)
    assert (found["feature_hashes"], found["collectives"]) == (0, 0)
    assert found["batch_size"] == {"mean": None, "max": None}
    assert (found["cache_entries"], found["result_hit_rate"]) == (None, None)


MUTANTS = [
    Mutant(
        "the leader's own wait counts as followers'",
        carried.collectives,
        "if rank or not followers_only",
        "if True",
        test_collectives_are_those_of_the_leader_and_times_those_of_all_ranks,
    ),
    Mutant(
        "a collective counts as its batch",
        carried.figures,
        '"collectives": batches.total()',
        '"collectives": payloads',
        test_figures_are_for_each_request,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
