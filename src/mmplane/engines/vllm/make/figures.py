"""Gauges of `make` in this API process, in vLLM's own `/metrics`."""

from __future__ import annotations

from threading import Lock

from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

FIGURES = {
    "images_seen": "Images whose features were not in vLLM's cache",
    "images_made": "Those of them that the sidecar has made",
}
PASSED_OVER = "images_passed_over"


class Figures:
    """Gauges over a tally, created when first shown: only then has vLLM decided how its processes share metrics."""

    def __init__(self) -> None:
        self._gauges: tuple[Gauges, Gauges] | None = None
        self._lock = Lock()

    def show(self, tally: Tally) -> None:
        """Set the gauges to the tally's current counts. May be called in any thread."""
        with self._lock:  # of two threads, the later one shows the newer counts
            if self._gauges is None:
                reasons = Gauges({PASSED_OVER: "Those of them that vLLM has made, by reason"}, label="reason")
                self._gauges = Gauges(FIGURES), reasons
            own, reasons = self._gauges
            figures = tally.figures()
            own.show({"images_seen": figures["features_seen"], "images_made": figures["features_carried"]})
            reasons.show_by(PASSED_OVER, tally.reasons())
