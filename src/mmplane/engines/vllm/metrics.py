"""The figures in vLLM's own `/metrics`: this API server's, and those of the sidecar that all of them share."""

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
    "external": "it came processed from outside",
    "parts": "its request is sent in parts",
    "failed": "of an error",
}
"""Why a feature goes by vLLM's own way."""
REFRESH_S = 1.0
"""How long after a feature the figures are taken again: ranks end their leases later than the answer."""

_OWN = {
    "features_seen": "Features that came in",
    "features_carried": "Features that went to an engine through the arena, once for each message",
}
_PASSED_OVER = "features_passed_over"
_SIDECARS = {
    "arena_leased_bytes": "Arena bytes that a process may still read",
    "arena_evictable_bytes": "Arena bytes kept for requests to come",
    "arena_free_bytes": "Arena bytes that nobody uses",
    "arena_items": "Items indexed",
    "arena_evictions": "Items that made room for others",
    "arena_leases": "Leases of messages that some rank has not ended",
    "arena_strays": "Ends of leases that were not open",
    "arena_written_bytes": "Bytes of features that the sidecar has made",
    "materialisations": "Items that the sidecar has made",
}
FIGURES = _OWN | {_PASSED_OVER: "Features that went by vLLM's own way, by reason"} | _SIDECARS
"""All of them, by name without the prefix."""


class Metrics:
    """Shows a tally, and the sidecar's figures, after features came in and until no lease is open."""

    def __init__(self, tally: Tally, client: Callable[[], Client | None]) -> None:
        self._tally = tally
        self._client = client
        self._own = Gauges(_OWN)
        self._reasons = Gauges({_PASSED_OVER: FIGURES[_PASSED_OVER]}, label="reason")
        self._sidecars = Gauges(_SIDECARS, mode="livemostrecent")
        self._news = Event()
        Thread(target=self._run, name="mmplane: figures", daemon=True).start()

    def refresh(self) -> None:
        """There is something new to show."""
        self._news.set()

    def _run(self) -> None:
        while self._news.wait():
            time.sleep(REFRESH_S)  # what comes in meanwhile is shown with it
            self._news.clear()
            if self._show():
                self._news.set()

    def _show(self) -> bool:
        """Whether something is leased or held: it will change without a feature that comes in."""
        self._own.show(self._tally.figures())
        self._reasons.show_by(_PASSED_OVER, self._tally.reasons())
        client = self._client()
        if client is None:
            return False
        try:
            figures = client.statistics()
        except SidecarError:
            return False
        self._sidecars.show(_flat(figures))
        return bool(figures["leases"] or figures["holds"])


def _flat(figures: dict[str, Any]) -> dict[str, int]:
    arena = figures["arena"]
    shown = {f"arena_{kind}_bytes": arena["total"][f"{kind}_bytes"] for kind in ("leased", "evictable", "free")}
    shown |= {"arena_items": arena["items"], "arena_evictions": arena["evictions"]}
    shown |= {"arena_leases": figures["leases"], "arena_strays": figures["strays"]}
    return shown | {"arena_written_bytes": figures["bytes_written"], "materialisations": figures["materialisations"]}
