"""A prepared request, as the model takes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from mmplane.core.plan import Submit
from mmplane.ranks.plan.schedule import Segment


@dataclass
class Prompt:
    """Token ids [tokens] and positions [1 or 3, tokens], both int64 in host memory, and its items' embeddings."""

    submit: Submit
    ids: torch.Tensor
    positions: torch.Tensor
    position_shift: int
    """Position of a generated token minus its index: grids take fewer positions than tokens."""
    embeddings: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    """(start in the prompt, rows) of what replaces the placeholders, on the model's device."""

    def rows(self, segment: Segment) -> Iterator[tuple[int, torch.Tensor]]:
        """What of the items' rows falls into a segment of the prompt, and where in the segment it begins."""
        end = segment.start + segment.count
        for start, rows in self.embeddings:
            low, high = max(start, segment.start), min(start + len(rows), end)
            if low < high:
                yield low - segment.start, rows[low - start : high - start]
