"""Attention over packed tokens: one row holds the tokens of every segment of a step, each with blocks of its own.

Models in transformers call an attention function by name, after their own projections and rotary embedding, and before
their own output projection. Registering one is enough to run any of them on packed segments, without padding, masks or
a cache class: the function writes the new keys and values where they belong and attends per segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mmplane.ranks.model.cache import Memory
from mmplane.ranks.plan.runs import Run

NAME = "mmplane_packed"


@dataclass(frozen=True)
class Span:
    """One segment in the packed row: `count` tokens, which are positions `start`... of the sequence in these `blocks`.

    `blocks` are int64, in order, up to the last of these tokens. Tokens of one of `runs` attend to each other: (start,
    end) in the sequence, which end in this segment or before.
    """

    blocks: torch.Tensor
    start: int
    count: int
    runs: tuple[Run, ...] = ()

    def slots(self, block_tokens: int) -> torch.Tensor:
        """Where the segment's keys and values go, int64 [count]."""
        positions = torch.arange(self.start, self.start + self.count, device=self.blocks.device)
        return self.blocks[positions // block_tokens] * block_tokens + positions % block_tokens


class PackedAttention:
    """The attention function over what lies in `memory`; `spans` is set before each forward pass."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._spans: tuple[Span, ...] = ()
        self._slots = torch.empty(0, dtype=torch.int64)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The segments of this forward pass, in the order of the packed row."""
        return self._spans

    @spans.setter
    def spans(self, spans: tuple[Span, ...]) -> None:
        self._spans = spans
        self._slots = torch.cat([span.slots(self._memory.block_tokens) for span in spans])

    def register(self) -> None:
        """Make models find this function under `NAME`."""
        ALL_ATTENTION_FUNCTIONS.register(NAME, self)

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """Query, key and value are [1, heads, tokens, head size]; returns [1, tokens, heads, head size]."""
        del attention_mask  # no mask is made for a function of this name: causality is by segment
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        self._memory.write(layer, self._slots, key[0], value[0])
        outputs = []
        begin = 0
        for span in self.spans:
            end = begin + span.count
            keys, values = self._memory.read(layer, span.blocks, span.start + span.count)
            mask = visible(span, sliding_window, query.device)
            outputs.append(
                scaled_dot_product_attention(
                    query[:, :, begin:end], keys[None], values[None], attn_mask=mask, scale=scaling, enable_gqa=True
                )
            )
            begin = end
        return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def visible(span: Span, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which positions each token of a segment sees, bool [count, positions up to its last]; None: all.

    Itself and those before, at most `window` back, and its whole run.
    """
    start, end = span.start, span.start + span.count
    if span.count == 1 and (window is None or end <= window):
        return None
    mask = torch.ones(span.count, end, dtype=torch.bool, device=device).tril(start)
    if window is not None:
        mask = mask.triu(start - window + 1)
    for first, behind in span.runs:
        mask[max(first - start, 0) : max(behind - start, 0), first:behind] = True
    return mask
