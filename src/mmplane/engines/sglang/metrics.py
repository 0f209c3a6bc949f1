"""The plane's figures in SGLang's own `/metrics`, where that is switched on (`--enable-metrics`)."""

from __future__ import annotations

import importlib
from typing import Any

from sglang.srt.runtime_context import get_observability

_HELP = {
    "arena_leased_bytes": "Arena bytes that a process may still read",
    "arena_evictable_bytes": "Arena bytes kept for requests to come",
    "arena_free_bytes": "Arena bytes that nobody uses",
    "arena_items": "Items indexed",
    "arena_leases": "Leases of messages that some rank has not ended",
    "arena_hits": "Features that lay in the arena already",
    "arena_misses": "Features that did not",
    "arena_evictions": "Items that made room for others",
    "features_written_bytes": "Bytes of features written",
    "features_inline": "Features that went by SGLang's own way, for lack of room",
}


class Metrics:
    """Gauges of this tokenizer process; their sum over all of them is what a scrape shows."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}
        if get_observability().enable_metrics:
            # Not imported above: SGLang first says where processes share their figures, and the import settles it.
            gauge = importlib.import_module("prometheus_client").Gauge
            self._gauges = {
                name: gauge(f"mmplane_{name}", text, multiprocess_mode="livesum") for name, text in _HELP.items()
            }

    def update(self, statistics: dict[str, Any], inline: int) -> None:
        """Set them all."""
        arena = statistics["arena"]
        figures = {
            "arena_leased_bytes": arena.total.leased_bytes,
            "arena_evictable_bytes": arena.total.evictable_bytes,
            "arena_free_bytes": arena.total.free_bytes,
            "arena_items": arena.items,
            "arena_leases": statistics["leases"],
            "arena_hits": arena.hits,
            "arena_misses": arena.misses,
            "arena_evictions": arena.evictions,
            "features_written_bytes": statistics["written_bytes"],
            "features_inline": inline,
        }
        for name, gauge in self._gauges.items():
            gauge.set(figures[name])
