"""States of recurrent layers (Qwen3.5's linear attention), which a sequence owns in addition to keys and values.

A recurrent layer keeps one state for all tokens so far, and not one for each position. So prompts with the same
beginning cannot share any of it, and a sequence that begins again at position 0 begins without one.
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
"""The name of a recurrent layer among the modules of a decoder layer."""


class States:
    """The states of every sequence that has begun, for a language model with such layers; otherwise a no-op."""

    def __init__(self, language: Any) -> None:
        layers = [getattr(layer, LAYER) for layer in language.layers if hasattr(layer, LAYER)]
        self._config = language.config
        self._layers = Segmented(language.config, layers, self._run)
        self._of: dict[SequenceId, DynamicCache] = {}

    @property
    def present(self) -> bool:
        """Whether the model has such layers."""
        return self._layers.count > 0

    def begin(self, segments: tuple[Segment, ...]) -> None:
        """Call before a forward pass over these segments."""
        self._layers.segments = segments
        for segment in segments:
            if self._layers.count and segment.start == 0:
                self._of[segment.sequence] = DynamicCache(config=self._config)

    def fork(self, drawn: Iterable[SequenceId]) -> None:
        """Call after a forward pass: the samples of a request continue from the end of its prompt."""
        for request_id, sample in drawn:
            if self._layers.count and (request_id, sample) not in self._of:
                self._of[request_id, sample] = copy.deepcopy(self._of[request_id, 0])

    def drop(self, sequences: Iterable[SequenceId]) -> None:
        """Drop these sequences, which have ended."""
        for sequence in sequences:
            self._of.pop(sequence, None)

    @property
    def bytes_each(self) -> int:
        """The size of a sequence's states, as far as any has been computed here."""
        return max(map(bytes_of, self._of.values()), default=0)

    def _run(
        self, plain: partial[torch.Tensor], hidden: torch.Tensor, segment: Segment, options: dict[str, Any]
    ) -> torch.Tensor:
        return plain(hidden, **options | {"cache": self._of[segment.sequence]})


def bytes_of(cache: DynamicCache) -> int:
    """The size of all tensors in a cache of transformers."""
    attributes = [each for layer in cache.layers for each in vars(layer).values()]
    single = [value for each in attributes for value in (each.values() if isinstance(each, dict) else (each,))]
    return sum(value.nbytes for value in single if isinstance(value, torch.Tensor))
