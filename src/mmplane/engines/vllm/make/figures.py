"""Gauges of `make` in this API process, in vLLM's own `/metrics`."""

from __future__ import annotations

from functools import partial

from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

FIGURES = {
    "images_seen": "Images whose features were not in vLLM's cache",
    "images_made": "Those of them that the sidecar has made",
}
PASSED_OVER = {"images_passed_over": "Those of them that vLLM has made, by reason"}


class Figures:
    """Gauges over a tally, created when first shown: only then has vLLM decided how its processes share metrics."""

    def __init__(self) -> None:
        self._own = Gauges(FIGURES, late=True)
        self._reasons = Gauges(PASSED_OVER, label="reason", late=True)

    def show(self, tally: Tally) -> None:
        """Set the gauges to the tally's current counts. May be called in any thread."""
        self._own.show(partial(_counts, tally))
        self._reasons.show(tally.reasons)


def _counts(tally: Tally) -> dict[str, int]:
    figures = tally.figures()
    return {"images_seen": figures["features_seen"], "images_made": figures["features_carried"]}
