"""A prepared request, in the form that the model takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from mmplane.core.plan import Submit
from mmplane.ranks.plan.runs import Run
from mmplane.ranks.plan.step import Segment


@dataclass(frozen=True)
class Rows:
    """Embeddings [rows, width], on the model's device, of placeholders from position `start` of the prompt on."""

    start: int
    rows: torch.Tensor
    kept: bool
    """Whether the rank keeps them as long as their request runs."""

    @property
    def end(self) -> int:
        """The position after the last row."""
        return self.start + len(self.rows)


@dataclass
class Prompt:
    """Token ids [tokens] and positions [1 or 3, tokens], both int64 in host memory, and its items' embeddings."""

    submit: Submit
    ids: torch.Tensor
    positions: torch.Tensor
    position_shift: int
    """The position of a generated token minus its index: grids take fewer positions than tokens."""
    embeddings: list[Rows] = field(default_factory=list)
    """What replaces the placeholders, as far as it is still needed."""
    runs: tuple[Run, ...] = ()
    """Parts whose tokens attend to each other."""

    def rows(self, segment: Segment) -> Iterator[tuple[int, torch.Tensor]]:
        """The parts of the items' rows in a segment of the prompt, and where in the segment each begins."""
        end = segment.start + segment.count
        for each in self.embeddings:
            low, high = max(each.start, segment.start), min(each.end, end)
            if low < high:
                yield low - segment.start, each.rows[low - each.start : high - each.start]

    def computed(self, segment: Segment) -> None:
        """Keys and values of a segment are in the cache: drop the passing rows that end there."""
        if not segment.tokens and self.embeddings:
            end = segment.start + segment.count
            self.embeddings = [each for each in self.embeddings if each.kept or each.end > end]
