"""Turns and runs made up for tests: figures that can be followed in one's head."""

from __future__ import annotations

from typing import Any

from mmplane.bench.run.figures import Label, Row, Turn, row
from mmplane.bench.run.generator import Sample
from mmplane.bench.run.meters import Memory
from mmplane.config import DELIVERY_NAMES
from mmplane.core.histogram import Distribution, bucket_of

DIGEST = "ab" * 32


def trace(*, digests: dict[str, str] | None = None, items: int = 1, hit: bool = False) -> dict[str, Any]:
    item = {
        "content_key": "00",
        "cache_hit": hit,
        "bytes": 1000,
        "shape": [25, 10],
        "dtype": "float32",
        "digests": digests or {"0": DIGEST, "1": DIGEST},
    }
    rank: dict[str, Any] = {"materialised": 0, "materialise_ms": 0.0, "deliver_ms": 0.5, "hashed": 0, "hash_ms": 0.0}
    stages_ms = {"fetch": 0.5, "materialise": 15.0, "decode": 4.0, "transform": 6.0}
    return {"items": [item] * items, "stages_ms": stages_ms, "ranks": [rank, rank | {"deliver_ms": 0.75}]}


def sample(index: int, latency_ms: float, **more: Any) -> Sample:
    fields: dict[str, Any] = {"status": 200, "code": None, "sent_s": 1.0, "token_s": (), "trace": trace()}
    return Sample(index=index, done_s=1.0 + latency_ms / 1000, **(fields | more))


def turn(samples: list[Sample], *, wall_s: float = 2.0, **more: Any) -> Turn:
    fields: dict[str, Any] = {
        "cpu_s": {"frontend": 0.2, "parser": 0.0, "worker": 1.0, "rank": 0.6, "nursery": 0.0, "supervisor": 0.0},
        "cpu_s_by_process": {"frontend": 0.2, "worker 1": 1.0, "rank 0": 0.4, "rank 1": 0.2},
        "busiest_thread": ("worker 1", 0.9),
        "verify_cpu_s": 0.2,
        "materialisations": len(samples),
        "stalls": Distribution(((bucket_of(1.0), 99), (bucket_of(50.0), 1)), 149.0),
        "broadcasts": Distribution(((bucket_of(0.1), 10),), 1.0),
        "load_cpu_s": 0.1,
        "load_lag_ms_max": 1.5,
    }
    return Turn(samples=tuple(samples), wall_s=wall_s, **(fields | more))


def memory(at_s: float, *, rank: int = 300, arena: int = 0, descriptors: int = 60, **more: int) -> Memory:
    return Memory(at_s, 100, 200, rank, arena, descriptors, **more)


LABEL = Label(delivery="arena", workload="photo", tp=2, concurrency=8, rate=None, runner="null", cache=True)
MEMORY = [memory(0.0), memory(1.0, arena_leased_max=1000, in_flight=1)]


def row_of(delivery: str, *, slower: float = 1.0, **more: Any) -> Row:
    """A result of a delivery that takes `slower` times what the quickest takes, in time and CPU."""
    taken = turn([sample(index, 100.0 * slower * (1 + index / 100)) for index in range(10)], wall_s=slower)
    found = row(LABEL, [taken, taken], MEMORY, MEMORY)
    for name, seconds in found["cpu_s_per_request"].items():
        found["cpu_s_per_request"][name] = seconds * slower
    return found | {"delivery": delivery, "cache": delivery in ("arena", "auto")} | more


def run_of(rows: list[Row], **more: Any) -> dict[str, Any]:
    """A run's JSON."""
    environment = {
        "command": "mmplane bench --workload photo", "at": "2026-01-01T00:00:00+00:00", "commit": "abc", "cpu": "A CPU",
        "cores": 2, "memory_bytes": 2**34, "load_average": 0.5, "kernel": "6", "python": "3.11", "versions": {"x": "1"},
    }  # fmt: skip
    place = {"workload": "photo", "delivery": "arena", "frontend": 1, "worker": 2, "rank": 3, "arena": 4}
    samples = [place | {"at_s": at_s} for at_s in (0.0, 1.0)]
    empty = {"skipped": [], "transforms": [], "pickled": None}
    return {"environment": environment, "rows": rows, "memory": samples} | empty | more


def whole_run() -> dict[str, Any]:
    """Rows of every delivery, of two numbers of ranks, of sizes, a failed one, peers and a soak."""
    rows = [
        row_of(name, slower=1 + index, tp=tp) for index, name in enumerate(reversed(DELIVERY_NAMES)) for tp in (2, 4)
    ]
    rows += [row_of(name, workload=f"bytes:{mb:03}MB", features_bytes_per_request=mb * 1e6)
             for mb in (1, 16, 256) for name in ("leader", "arena")]  # fmt: skip
    failed = {key: value for key, value in row_of("leader", workload="4k").items() if key not in ("qps", "latency_ms")}
    rows.append(failed | {"result": False, "errors": 2, "error_codes": {"overloaded": 2}})
    sample = {"frontend": 1, "worker": 2, "rank": 3, "arena": 4, "descriptors": 60}
    soak = {"samples": [sample | {"at_s": float(at)} for at in range(5)], "growth_share": 0.0, "seconds": 60.0,
            "flat": True, "requests": 5, "errors": {}, "why": ""}  # fmt: skip
    carriers = [{"carrier": name, "readers": count, "bytes": 8_000_000, "hand_over_ms": {"median": 1.0}}
                for name in ("arena in place", "ZMQ + pickle") for count in (1, 2)]  # fmt: skip
    skipped = [{"delivery": "auto", "workload": "photo", "why": "</script><script>alert(1)</script>"}]
    return run_of(rows, soak=soak, peers=carriers, skipped=skipped)
