"""Counts the answers of each render process in memory that all of them map, so that any of them can report on all.

Each process has a row, by its number, and only that process writes it. Its successor continues in the same row, so that
no counter goes back when a process is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mmplane.arena.segment import RegionMapping, create_region
from mmplane.observe.exposition import Figures, Labels, Metric
from mmplane.observe.journal import outcome_of
from mmplane.observe.journey import Journey

OUTCOMES = ("answered", "refused", "failed", "aborted")
COLUMNS = (*OUTCOMES, "items", "prompt_tokens")
_ROW_BYTES = 8 * len(COLUMNS)


def create_tally(processes: int) -> int:
    """Create the memory. Returns its descriptor, which the caller closes. Raises OutOfMemory."""
    return create_region("mmplane-tally", processes * _ROW_BYTES)


class Tally:
    """The journal of render process `index` (from 1) of `processes`."""

    def __init__(self, descriptor: int, processes: int, index: int) -> None:
        region = RegionMapping(descriptor, processes * _ROW_BYTES, writable=True)
        self._rows = [region.view(row * _ROW_BYTES, _ROW_BYTES).cast("q") for row in range(processes)]
        self._own = self._rows[index - 1]

    def begin(self, _: Iterable[tuple[bytes, bytes]]) -> Journey:
        """Count a request that has arrived."""
        return Journey()

    def end(self, journey: Journey, status: int, code: str) -> None:
        """Count a request that has ended."""
        journey.end(status, code)
        outcome = outcome_of(status)
        self._own[COLUMNS.index(outcome)] += 1
        if outcome == "answered":
            self._own[COLUMNS.index("items")] += journey.items
            self._own[COLUMNS.index("prompt_tokens")] += journey.prompt_tokens

    def figures(self) -> Figures:
        """The figures for `/metrics`."""
        return Figures({str(number): dict(zip(COLUMNS, row, strict=True)) for number, row in enumerate(self._rows, 1)})


def _column(name: str) -> Callable[[Figures], Iterable[tuple[Labels, float]]]:
    return lambda figures: [((process,), row[name]) for process, row in figures.now.items()]


def _outcomes(figures: Figures) -> Iterable[tuple[Labels, float]]:
    return [((process, outcome), row[outcome]) for process, row in figures.now.items() for outcome in OUTCOMES]


METRICS = (
    Metric("mmplane_render_requests_total", "counter", "Requests that have ended.", ("process", "outcome"), _outcomes),
    Metric("mmplane_render_items_total", "counter", "Items of answered requests.", ("process",), _column("items")),
    Metric(
        "mmplane_render_prompt_tokens_total",
        "counter",
        "Prompt tokens of answered requests.",
        ("process",),
        _column("prompt_tokens"),
    ),
)
"""Every metric of render processes; docs/sidecar.md lists them."""
