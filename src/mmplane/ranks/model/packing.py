"""One row of all tokens of a step: ids, positions, and where items' embeddings replace those of ids.

It is built in host memory and copied to the device once. The model's embedding is called once for the whole row,
because each call is a collective under tensor parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmplane.ranks.model.prompt import Prompt
from mmplane.ranks.plan.step import Segment


@dataclass(frozen=True)
class Packed:
    """Ids [tokens] and positions [1 or 3, tokens], int64; items' rows and their positions in the row."""

    ids: torch.Tensor
    positions: torch.Tensor
    items: list[tuple[int, torch.Tensor]]
    drawing: list[int]
    """The index of the last token of each segment that samples."""

    def place(self, embeddings: torch.Tensor) -> dict[str, Any]:
        """Write items' rows into embeddings [tokens, hidden]. Returns additional arguments for the language model.

        These are what Qwen3-VL adds to the hidden states of its first layers (deepstack): the rest of the items' rows,
        and zeros elsewhere.
        """
        hidden = embeddings.shape[1]
        added: torch.Tensor | None = None
        for start, rows in self.items:
            embeddings[start : start + len(rows)] = rows[:, :hidden]
            if rows.shape[1] > hidden:
                if added is None:
                    added = embeddings.new_zeros(len(embeddings), rows.shape[1] - hidden)
                added[start : start + len(rows)] = rows[:, hidden:]
        if added is None:
            return {}
        everywhere = torch.ones(1, len(embeddings), dtype=torch.bool, device=embeddings.device)
        return {"visual_pos_masks": everywhere, "deepstack_visual_embeds": torch.split(added, hidden, dim=1)}


def pack(segments: Sequence[Segment], prompts: Mapping[int, Prompt], device: torch.device) -> Packed:
    """Pack the tokens of all segments, one after the other."""
    total = sum(segment.count for segment in segments)
    axes = len(prompts[segments[0].sequence[0]].positions)
    ids, positions = np.empty(total, np.int64), np.empty((axes, total), np.int64)
    items: list[tuple[int, torch.Tensor]] = []
    drawing: list[int] = []
    begin = 0
    for segment in segments:
        prompt = prompts[segment.sequence[0]]
        start, end = segment.start, begin + segment.count
        if not segment.tokens:
            ids[begin:end] = prompt.ids[start : start + segment.count]
            positions[:, begin:end] = prompt.positions[:, start : start + segment.count]
            items += [(begin + at, rows) for at, rows in prompt.rows(segment)]
        else:
            ids[begin:end] = segment.tokens
            positions[:, begin:end] = np.arange(start, start + segment.count) + prompt.position_shift
        if segment.draws:
            drawing.append(end - 1)
        begin = end
    return Packed(torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device), items, drawing)
