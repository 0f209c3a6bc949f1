"""What the digests of the answers must say, and the server's own figures of a turn."""

from __future__ import annotations

from typing import Any

from bench_run import DIGEST, sample, trace

from mmplane.bench.inputs.making import Made
from mmplane.bench.inputs.workloads import Request
from mmplane.bench.run.turns import loops, wrong

OTHER = "cd" * 32
REQUESTS = [Request(b"", (0,)), Request(b"", (1,))]
ITEMS = [Made(b"", DIGEST), Made(b"", OTHER)]


def digests(first: str, second: str) -> dict[str, Any]:
    return trace(digests={"0": first, "1": second})


def found(*traces: dict[str, Any] | None, items: list[Made] = ITEMS) -> list[str]:
    return wrong([sample(index, 1.0, trace=each) for index, each in enumerate(traces)], REQUESTS, items, 2)


def test_right_pictures_pass() -> None:
    assert not found(digests(DIGEST, DIGEST), digests(OTHER, OTHER))


def test_crossed_pictures_are_found_out() -> None:
    assert len(found(digests(OTHER, OTHER), digests(DIGEST, DIGEST))) == 2


def test_one_rank_with_other_features_is_found_out() -> None:
    assert "different features" in found(digests(DIGEST, OTHER))[0]


def test_a_rank_without_a_digest_is_found_out() -> None:
    assert "no digest" in found(trace(digests={"0": DIGEST}))[0]


def test_a_missing_item_is_found_out() -> None:
    assert "0 items" in found(trace(items=0))[0]


def test_an_unknown_reference_still_compares_the_ranks() -> None:
    unknown = [Made(b"", None), Made(b"", None)]
    assert not found(digests(DIGEST, DIGEST), items=unknown)
    assert found(digests(DIGEST, OTHER), items=unknown)


def test_cycles_ask_for_the_same_items_again() -> None:
    crossed = wrong([sample(3, 1.0, trace=digests(DIGEST, DIGEST))], REQUESTS, ITEMS, 2)
    assert len(crossed) == 1


def statistics(stalls: int, verify_cpu_s: float) -> dict[str, Any]:
    figures = {"counts": [[10, stalls]], "total_ms": float(stalls)}
    each = {"stalls": figures, "broadcasts": figures, "verify_cpu_s": verify_cpu_s}
    return {"ranks": {"loops": [each | {"rank": rank} for rank in range(2)]}}


def test_loops_are_what_came_since_of_all_ranks() -> None:
    taken = loops(statistics(3, 1.0), statistics(5, 1.5))
    assert taken["stalls"].counts == ((10, 4),)
    assert taken["verify_cpu_s"] == 1.0


def test_ranks_that_have_not_reported_before_count_from_nothing() -> None:
    assert loops({"ranks": {"loops": []}}, statistics(5, 1.5))["stalls"].count == 10
