"""What `make` has done in this API process, in vLLM's own `/metrics`."""

from __future__ import annotations

from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

FIGURES = {
    "images_seen": "Images whose features vLLM's cache did not have",
    "images_made": "Images of these that the sidecar has made",
}
PASSED_OVER = "images_passed_over"


class Figures:
    """Gauges over a tally, made when they are first shown: until then vLLM settles how its processes share them."""

    def __init__(self) -> None:
        self._gauges: tuple[Gauges, Gauges] | None = None

    def show(self, tally: Tally) -> None:
        """As it is now."""
        if self._gauges is None:
            reasons = Gauges({PASSED_OVER: "Images of these that vLLM has made, by reason"}, label="reason")
            self._gauges = Gauges(FIGURES), reasons
        own, reasons = self._gauges
        figures = tally.figures()
        own.show({"images_seen": figures["features_seen"], "images_made": figures["features_carried"]})
        reasons.show_by(PASSED_OVER, tally.reasons())
