"""The gauges in vLLM's own `/metrics`: this API server's, and those of the sidecar that all API servers share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from mmplane.embed.client import Client
from mmplane.embed.errors import SidecarError
from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

log = logging.getLogger("vllm.mmplane")

REASONS = {
    "small": "it has no tensor of 64 KiB on the CPU",
    "away": "the sidecar, or a rank of it, is not attached",
    "full": "the arena has no room for it",
    "external": "the client sent it already processed",
    "parts": "its request is sent in parts",
    "failed": "of an error",
}
"""Why a feature takes vLLM's own path."""
REFRESH_S = 1.0
"""Seconds after a feature until the sidecar's figures are read: ranks end their leases after the answer is sent."""

_OWN = {
    "features_seen": "Features received",
    "features_carried": "Features sent to an engine through the arena, counted once per message",
}
_PASSED_OVER = {"features_passed_over": "Features that took vLLM's own path, by reason"}
_SIDECARS = {
    "arena_leased_bytes": "Arena bytes that a process may still read",
    "arena_evictable_bytes": "Arena bytes kept for later requests",
    "arena_free_bytes": "Free arena bytes",
    "arena_items": "Items in the index",
    "arena_evictions": "Items evicted to make room for others",
    "arena_leases": "Leases of messages that some rank has not ended",
    "arena_strays": "Releases of leases that were not open",
    "arena_written_bytes": "Bytes of features that the sidecar has made",
    "materialisations": "Items that the sidecar has made",
}
FIGURES = _OWN | _PASSED_OVER | _SIDECARS
"""All gauges: help text by name without the prefix."""


class Metrics:
    """Shows a tally at once, and the sidecar's figures from the arrival of a feature until no lease is open."""

    def __init__(self, tally: Tally, client: Callable[[], Client | None]) -> None:
        self._tally = tally
        self._client = client
        self._own = Gauges(_OWN)
        self._reasons = Gauges(_PASSED_OVER, label="reason")
        self._sidecars = Gauges(_SIDECARS, mode="livemostrecent")
        self._news = Event()
        Thread(target=self._run, name="mmplane: figures", daemon=True).start()

    def refresh(self) -> None:
        """Show the tally, and have the thread read the sidecar's figures. May be called in any thread."""
        self._own.show(self._tally.figures)
        self._reasons.show(self._tally.reasons)
        self._news.set()

    def _run(self) -> None:
        while self._news.wait():
            time.sleep(REFRESH_S)  # features that arrive in the meantime are shown in the same update
            self._news.clear()
            if self._show():
                self._news.set()

    def _show(self) -> bool:
        """Return whether leases or holds are open: the figures then change without a new feature."""
        client = self._client()
        if client is None:
            return False
        try:
            figures = client.statistics()
        except SidecarError:
            return False
        self._sidecars.show(lambda: _flat(figures))
        return bool(figures["leases"] or figures["holds"])


def _flat(figures: dict[str, Any]) -> dict[str, int]:
    arena = figures["arena"]
    shown = {f"arena_{kind}_bytes": arena["total"][f"{kind}_bytes"] for kind in ("leased", "evictable", "free")}
    shown |= {"arena_items": arena["items"], "arena_evictions": arena["evictions"]}
    shown |= {"arena_leases": figures["leases"], "arena_strays": figures["strays"]}
    return shown | {"arena_written_bytes": figures["bytes_written"], "materialisations": figures["materialisations"]}
