"""Attention over packed tokens: one row holds the tokens of all segments of a step, each with its own blocks.

Models in transformers call an attention function by name, after their own projections and rotary embedding, and before
their own output projection. Registering a function is enough to run any of them on packed segments, without padding,
masks or a cache class: the function writes the new keys and values to their places and attends within each sequence.

What all layers of a step have in common is computed once (`mmplane.ranks.model.spans`): where keys and values go, which
sequences share a call, and the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.spans import Span, Together, together

NAME = "mmplane_packed"
CPU = torch.device("cpu")


class Calls(dict[int | None, list[Together]]):
    """The calls of a forward pass for each window of the layers, made when the first layer needs them."""

    def __init__(self, make: Callable[[int | None], list[Together]]) -> None:
        self._make = make

    def __missing__(self, window: int | None) -> list[Together]:
        self[window] = made = self._make(window)
        return made


class PackedAttention:
    """The attention function over `memory`; `begin` or `begin_spans` comes before each forward pass."""

    def __init__(self, memory: Memory, device: torch.device = CPU) -> None:
        self._memory = memory
        self._device = device
        self._slots = torch.empty(0, dtype=torch.int64)
        self._calls = Calls(lambda _: [])

    def begin_spans(self, spans: Sequence[Span]) -> None:
        """A forward pass of these segments follows, in the order of the packed row."""
        written = torch.from_numpy(np.concatenate([span.written for span in spans])).to(self._device)
        self.begin(written, Calls(lambda window: together(spans, window, self._device)))

    def begin(self, written: torch.Tensor, calls: Calls) -> None:
        """A forward pass follows that writes into these slots, int64 [tokens], and attends with these calls."""
        self._slots, self._calls = written, calls

    def register(self) -> None:
        """Register this function under `NAME`."""
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
        del attention_mask  # no mask is made for a function with this name: causality is by segment
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        self._memory.write(layer, self._slots, key[0], value[0])
        calls, rows = self._calls[sliding_window], query[0].transpose(0, 1)
        seen = (_attended(rows[call.rows], *self._memory.read(layer, call.slots), call, scaling) for call in calls)
        if len(calls) == 1:
            return next(seen)[None], None
        output = torch.empty_like(rows)
        for call, part in zip(calls, seen, strict=True):
            output[call.rows] = part
        return output[None], None


def _attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, call: Together, scaling: float | None
) -> torch.Tensor:
    """Attention of these queries [rows, heads, head size] to keys and values [sequences, heads, keys, head size]."""
    sequences, kv_heads, _, size = keys.shape
    if len(query) == sequences:  # one query each: queries that share a head's keys are adjacent, and no key is repeated
        grouped = query.view(sequences, kv_heads, -1, size)
        seen = scaled_dot_product_attention(grouped, keys, values, attn_mask=call.mask, scale=scaling)
        return seen.reshape(query.shape)
    causal = call.mask is None
    queries = query.transpose(0, 1)[None]
    seen = scaled_dot_product_attention(
        queries, keys, values, attn_mask=call.mask, is_causal=causal, scale=scaling, enable_gqa=True
    )
    return seen[0].transpose(0, 1)
