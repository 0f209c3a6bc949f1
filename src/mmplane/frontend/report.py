"""Current statistics of all parts: the operator's JSON, and the figures of `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mmplane.core.buckets import Reading
from mmplane.core.histogram import Distribution
from mmplane.core.plan import LoopReport, Progress
from mmplane.frontend.send.group import Group
from mmplane.observe.exposition import Figures, Labels


class Report:
    """Asks the parts each time and keeps nothing. `sections` are the sections of the operator's JSON."""

    def __init__(
        self,
        sections: Mapping[str, Callable[[], Any]],
        *,
        counts: Callable[[], Mapping[str, Mapping[Labels, float]]],
        readings: Callable[[], Mapping[str, Mapping[Labels, Reading]]],
    ) -> None:
        self._sections = sections
        self._counts = counts
        self._readings = readings

    def statistics(self) -> dict[str, Any]:
        """The statistics as in `GET /admin/statistics`."""
        return {name: section() for name, section in self._sections.items()}

    def figures(self) -> Figures:
        """The figures for `/metrics`."""
        return Figures(self.statistics(), self._counts(), self._readings())


def ranks(group: Group) -> dict[str, Any]:
    """Statistics of the group and of each rank."""
    statistics = group.statistics()
    return {
        "incarnation": statistics.incarnation,
        "attached": statistics.attached,
        "in_flight": statistics.in_flight,
        "requests": statistics.requests,
        "kv_tokens_max": group.kv_tokens_max,
        "progress": statistics.progress and _progress(statistics.progress),
        "loops": [_loop(loop) for loop in statistics.loops],
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "number": progress.number,
        "running": progress.running,
        "waiting": progress.waiting,
        "kv_tokens": progress.kv_tokens,
        "memory": msgspec.structs.asdict(progress.memory),
        "ranks": [
            {
                "rank": report.rank,
                "number": report.number,
                "digest": report.digest.hex(),
                "parcels": report.parcels,
                "cached": report.cached,
                "kept_bytes": report.kept_bytes,
                "passing_bytes": report.passing_bytes,
                "received_bytes": report.received_bytes,
            }
            for report in progress.ranks
        ],
    }


def _loop(loop: LoopReport) -> dict[str, Any]:
    return {
        "rank": loop.rank,
        "stalls": _counts(loop.stalls),
        "broadcasts": _counts(loop.broadcasts),
        "verify_cpu_s": loop.verify_cpu_s,
        "collectives": msgspec.structs.asdict(loop.collectives),
    }


def _counts(distribution: Distribution) -> dict[str, Any]:
    return {"counts": distribution.counts, "total_ms": distribution.total_ms}


def plain(statistics: msgspec.Struct) -> dict[str, Any]:
    """Convert a record to JSON types."""
    plain: dict[str, Any] = msgspec.to_builtins(statistics)
    return plain
