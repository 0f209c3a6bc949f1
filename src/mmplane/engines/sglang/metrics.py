"""Counts of a tokenizer process, and the gauges in SGLang's own `/metrics` (`--enable-metrics`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from threading import Lock
from typing import Any

from sglang.srt.runtime_context import get_observability

from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

log = logging.getLogger("mmplane")

REASONS = {
    "not_ready": "not every rank is attached yet",
    "full": "the arena has no room for it",
    "late": "another node did not get it in time",
    "gpu": "it is on a GPU",
    "empty": "it is empty",
    "dtype": "records cannot describe its dtype",
    "error": "of an exception",
}
"""Why a feature takes SGLang's own path."""

SIDECARS = {
    "arena_leased_bytes": "Arena bytes that a process may still read",
    "arena_evictable_bytes": "Arena bytes kept for later requests",
    "arena_free_bytes": "Free arena bytes",
    "arena_items": "Items in the index",
    "arena_leases": "Leases of messages that some rank has not ended",
    "arena_evictions": "Items evicted to make room for others",
    "arena_mirrors": "Other nodes that have a mirror of the arena",
    "arena_copied_bytes": "Bytes of features that went to mirrors",
}
OWN = {
    "features_seen": "Features of requests",
    "features_carried": "Features that went through the arena",
    "arena_hits": "Features that were already in the arena",
    "arena_misses": "Features that were not yet in the arena",
    "features_written_bytes": "Bytes of features written",
}
PASSED_OVER = {"features_passed_over": "Features that took SGLang's own path, by reason"}


class Metrics:
    """Counts of this tokenizer process, with gauges for them and for the sidecar that all tokenizers share."""

    def __init__(self) -> None:
        self.tally = Tally(REASONS, log)
        self._written = dict.fromkeys(("arena_hits", "arena_misses", "features_written_bytes"), 0)
        self._lock = Lock()
        self.is_shown = bool(get_observability().enable_metrics)
        if self.is_shown:
            self._sidecars = Gauges(SIDECARS, mode="livemostrecent")
            self._own = Gauges(OWN)
            self._passed_over = Gauges(PASSED_OVER, label="reason")

    def carried(self, length_bytes: int, *, hit: bool) -> None:
        """Count a feature that goes through the arena. May be called in any thread."""
        self.tally.carried()
        with self._lock:
            self._written["arena_hits" if hit else "arena_misses"] += 1
            self._written["features_written_bytes"] += 0 if hit else length_bytes

    def show(self, figures: Mapping[str, Any] | None) -> None:
        """Set all gauges, in any thread. Without `figures` of the sidecar, set only this process's own."""
        self._own.show(lambda: self.tally.figures() | self._written)
        self._passed_over.show(self.tally.reasons)
        if figures is not None:
            self._sidecars.show(lambda: _flat(figures))


def _flat(figures: Mapping[str, Any]) -> dict[str, int]:
    arena = figures["arena"]
    shown = {f"arena_{kind}_bytes": arena["total"][f"{kind}_bytes"] for kind in ("leased", "evictable", "free")}
    return shown | {
        "arena_items": arena["items"],
        "arena_leases": figures["leases"],
        "arena_evictions": arena["evictions"],
        "arena_mirrors": figures.get("mirrors", 0),
        "arena_copied_bytes": figures.get("copied_bytes", 0),
    }
