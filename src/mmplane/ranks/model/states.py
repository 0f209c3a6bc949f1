"""States of recurrent layers (Qwen3.5's linear attention): what a sequence owns beside its keys and values.

A recurrent layer keeps one state of all tokens so far, and not one of each position. So nothing of it can be shared by
prompts that begin alike, and a sequence that begins again at position 0 begins with none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from mmplane.ranks.model.segmented import Segmented
from mmplane.ranks.plan.step import Segment, SequenceId

LAYER = "linear_attn"
"""Name of a recurrent layer among the modules of a decoder layer."""


class States:
    """Of every sequence that has begun, for a language model with such layers; for any other nothing happens."""

    def __init__(self, language: Any) -> None:
        layers = [getattr(layer, LAYER) for layer in language.layers if hasattr(layer, LAYER)]
        self._config = language.config
        self._layers = Segmented(language.config, layers, self._run)
        self._of: dict[SequenceId, DynamicCache] = {}

    def begin(self, segments: tuple[Segment, ...]) -> None:
        """Before a forward pass over these segments."""
        self._layers.segments = segments
        for segment in segments:
            if self._layers.count and segment.start == 0:
                self._of[segment.sequence] = DynamicCache(config=self._config)

    def fork(self, drawn: Iterable[SequenceId]) -> None:
        """After a forward pass: the samples of a request go on from where its prompt ends."""
        for request_id, sample in drawn:
            if self._layers.count and (request_id, sample) not in self._of:
                self._of[request_id, sample] = copy.deepcopy(self._of[request_id, 0])

    def drop(self, sequences: Iterable[SequenceId]) -> None:
        """They have ended."""
        for sequence in sequences:
            self._of.pop(sequence, None)

    def _run(
        self, plain: partial[torch.Tensor], hidden: torch.Tensor, segment: Segment, options: dict[str, Any]
    ) -> torch.Tensor:
        return plain(hidden, **options | {"cache": self._of[segment.sequence]})
