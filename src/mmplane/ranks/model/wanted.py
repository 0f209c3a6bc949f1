"""How to sample from one row of logits. Plain values; nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Penalties:
    """Penalties on tokens that a text already contains.

    `repetition` applies to all of `tokens`, as in transformers. `presence` and `frequency` apply to those in the
    answer, as in OpenAI's API. `tokens` contains each token once, int64, and `counts` is how often the answer contains
    it.
    """

    repetition: float
    presence: float
    frequency: float
    tokens: torch.Tensor
    counts: torch.Tensor


@dataclass(frozen=True)
class Wanted:
    """One row of logits: how to sample from it, and for which samples of the request.

    `top_k` 0 and `min_p` 0 mean off. `allowed` is a mask, bool [tokens]: tokens that are false in it, or beyond its
    end, are never sampled, and neither are `banned` ids. With `logprobs` n, each token carries its log probability and
    the n most likely tokens with theirs.
    """

    temperature: float
    top_p: float
    seed: int
    position: int
    samples: range = range(1)
    top_k: int = 0
    min_p: float = 0.0
    penalties: Penalties | None = None
    bias: Mapping[int, float] = field(default_factory=dict)
    allowed: torch.Tensor | None = None
    banned: tuple[int, ...] = ()
    logprobs: int | None = None

    @property
    def plain(self) -> bool:
        """Whether the logits are used unchanged."""
        return self.penalties is None and not self.bias and self.allowed is None and not self.banned

    @property
    def whole(self) -> bool:
        """Whether any token may be sampled, however unlikely."""
        return self.top_p >= 1 and not self.top_k and not self.min_p
