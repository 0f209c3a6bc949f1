"""Layers that run on one segment of the packed row after the other, because they keep more than keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from mmplane.ranks.model.attention import NAME
from mmplane.ranks.plan.step import Segment

Run = Callable[..., torch.Tensor]
"""Called with the layer's own forward, hidden states [1, tokens, hidden] of a segment, the segment, and other
arguments."""


class Segmented:
    """These layers; `segments` is set before each forward pass. `run` computes one segment.

    A forward pass of the whole model on its own is not changed.
    """

    def __init__(self, config: Any, layers: Iterable[Any], run: Run) -> None:
        self.segments: tuple[Segment, ...] = ()
        self._config = config
        self._run = run
        self.count = 0
        """The number of layers."""
        for layer in layers:
            layer.forward = partial(self._forward, partial(type(layer).forward, layer))
            self.count += 1

    def _forward(self, plain: partial[torch.Tensor], hidden_states: torch.Tensor, **options: Any) -> torch.Tensor:
        if self._config._attn_implementation != NAME:
            return plain(hidden_states, **options)
        parts = torch.split(hidden_states, [segment.count for segment in self.segments], dim=1)
        pairs = zip(parts, self.segments, strict=True)
        return torch.cat([self._run(plain, part, segment, options) for part, segment in pairs], dim=1)
