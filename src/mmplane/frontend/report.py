"""What all parts say of themselves, now: as the operator's JSON, and as the figures of `/metrics`."""

from __future__ import annotations

from typing import Any

import msgspec

from mmplane.core.histogram import Distribution
from mmplane.core.plan import LoopReport, Progress
from mmplane.frontend.assembly import Assembly
from mmplane.frontend.send.group import Group
from mmplane.observe.metrics import Figures


class Report:
    """Asks the parts each time; keeps nothing."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts

    def statistics(self) -> dict[str, Any]:
        """As `GET /admin/statistics` has it."""
        parts = self._parts
        return {
            "epoch": parts.epoch,
            "encoding": parts.encoding,
            "requests": parts.counters.statistics(),
            "journal": parts.journal.statistics(),
            "restarts": self._restarts(),
            "plane": {
                "materialisations": parts.store.materialisations,
                "bytes_written": parts.store.bytes_written,
            },
            "delivery": parts.dispatch.statistics(),
            "loop_lag": parts.lag.statistics(),
            "bodies": {"parsed": parts.bodies.parser.parsed},
            "fetch": _plain(parts.source.statistics()),
            "media": parts.intake.uuids.statistics(),
            "arena": _plain(parts.arena.statistics()),
            "budget": _plain(parts.budget.statistics()),
            "shares": parts.seats.statistics(),
            "workers": _plain(parts.pool.statistics()),
            "ranks": _ranks(parts.group),
            "traces_dropped": parts.tracer.dropped if parts.tracer is not None else 0,
        }

    def figures(self) -> Figures:
        """What `/metrics` shows."""
        parts = self._parts
        loops = parts.group.statistics().loops
        readings = parts.journal.readings() | {
            "loop_lag": {(): parts.lag.reading()},
            "stalls": {(str(loop.rank),): loop.stalls.reading() for loop in loops},
            "broadcasts": {(str(loop.rank),): loop.broadcasts.reading() for loop in loops},
            "latency": parts.dispatch.latencies(),
        }
        return Figures(self.statistics(), parts.journal.counts(), readings)

    def _restarts(self) -> dict[str, int]:
        """Processes that ended in this epoch, by role, and the front ends before it."""
        parts = self._parts
        return {
            "frontend": parts.epoch - 1,
            "parser": parts.bodies.parser.ended,
            "worker": parts.pool.statistics().ended,
            "ranks": parts.group.statistics().ended,
        }


def _ranks(group: Group) -> dict[str, Any]:
    statistics = group.statistics()
    return {
        "incarnation": statistics.incarnation,
        "attached": statistics.attached,
        "in_flight": statistics.in_flight,
        "requests": statistics.requests,
        "progress": statistics.progress and _progress(statistics.progress),
        "loops": [_loop(loop) for loop in statistics.loops],
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "number": progress.number,
        "running": progress.running,
        "waiting": progress.waiting,
        "kv_tokens": progress.kv_tokens,
        "ranks": [
            {
                "rank": report.rank,
                "number": report.number,
                "digest": report.digest.hex(),
                "parcels": report.parcels,
                "cached": report.cached,
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
    }


def _counts(distribution: Distribution) -> dict[str, Any]:
    return {"counts": distribution.counts, "total_ms": distribution.total_ms}


def _plain(statistics: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(statistics)
    return plain
