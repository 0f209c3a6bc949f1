"""Work of the deliveries for a turn's requests beside materialising: feature hashes, and object collectives. Pure.

All figures come from two readings of the server's own statistics, before and after the turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

Row = dict[str, Any]
_NOTHING: Row = dict.fromkeys(("pickle_ms", "wait_ms", "transfer_ms", "results_max", "results_found"), 0) | {
    "results_missed": 0,
    "batches": [],
}


class Hashes(msgspec.Struct, frozen=True):
    """Feature hashes and the time for them, in all processes."""

    count: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Collectives(msgspec.Struct, frozen=True):
    """Object collectives: `batches` are numbers of collectives by payloads; times are sums over the ranks.

    Followers wait for the leader (`leader_wait_ms`) while it decodes and pickles. `results_max` is the maximum number
    of results in D1's cache since the rank started.
    """

    batches: dict[int, int] = {}
    pickle_ms: float = 0.0
    leader_wait_ms: float = 0.0
    transfer_ms: float = 0.0
    results_max: int = 0
    results_found: int = 0
    results_missed: int = 0


def hashes(before: Row, after: Row) -> Hashes:
    """The work of all deliveries between two readings."""
    names = ("feature_hashes", "feature_hash_s", "feature_hash_cpu_s")
    return Hashes(*(_tallied(after, name) - _tallied(before, name) for name in names))


def collectives(before: Row, after: Row) -> Collectives:
    """The difference of two readings. A rank that did not report before counts from its start."""
    earlier = {loop["rank"]: loop["collectives"] for loop in before["ranks"].get("loops", ())}
    ranks = [(loop["rank"], loop["collectives"], earlier.get(loop["rank"], _NOTHING)) for loop in _loops(after)]
    leader, leader_before = next(((now, then) for rank, now, then in ranks if rank == 0), (_NOTHING, _NOTHING))

    def summed(name: str, *, followers_only: bool = False) -> float:
        return float(sum(now[name] - then[name] for rank, now, then in ranks if rank or not followers_only))

    batches = Counter(dict(leader["batches"]))
    batches.subtract(dict(leader_before["batches"]))
    return Collectives(
        batches={size: count for size, count in sorted(batches.items()) if count},
        pickle_ms=summed("pickle_ms"),
        leader_wait_ms=summed("wait_ms", followers_only=True),
        transfer_ms=summed("transfer_ms"),
        results_max=leader["results_max"],
        results_found=leader["results_found"] - leader_before["results_found"],
        results_missed=leader["results_missed"] - leader_before["results_missed"],
    )


def figures(hashed: Sequence[Hashes], carried: Sequence[Collectives], requests: int) -> Row:
    """A row's figures over all its turns; each collective counts once, however many ranks take part."""
    batches: Counter[int] = Counter()
    for each in carried:
        batches.update(each.batches)
    payloads = sum(size * count for size, count in batches.items())
    asked = sum(each.results_found + each.results_missed for each in carried)
    return {
        "feature_hashes": sum(each.count for each in hashed) / requests,
        "feature_hash_ms": sum(each.wall_s for each in hashed) * 1000 / requests,
        "feature_hash_cpu_s_per_request": sum(each.cpu_s for each in hashed) / requests,
        "collectives": batches.total() / requests,
        "batch_size": {"mean": payloads / batches.total() if batches else None, "max": max(batches, default=None)},
        "pickle_ms_per_request": sum(each.pickle_ms for each in carried) / requests,
        "leader_wait_ms_per_request": sum(each.leader_wait_ms for each in carried) / requests,
        "transfer_ms_per_request": sum(each.transfer_ms for each in carried) / requests,
        "cache_entries": max(each.results_max for each in carried) if asked else None,
        "result_hit_rate": sum(each.results_found for each in carried) / asked if asked else None,
    }


def _loops(statistics: Row) -> list[Row]:
    return list(statistics["ranks"].get("loops", ()))


def _tallied(statistics: Row, name: str) -> Any:
    return sum(tally[name] for tally in statistics["delivery"]["by_name"].values())
