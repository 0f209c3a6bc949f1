"""A running average of a model's weights, which swings less than they do from step to step.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; exponential, as usual since.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FIRST = 10
"""Early on an average over fewer steps, so that what training began with is soon forgotten."""


class Average:
    """Weights that follow a module's: after `count` steps each keeps at most `kept` of what it was."""

    def __init__(self, module: nn.Module, kept: float) -> None:
        self._module = module
        self._kept = kept
        self._count = 0
        self._weights = [value.detach().clone() for value in module.parameters()]

    @torch.no_grad()
    def follow(self) -> None:
        """Take a step's weights in."""
        self._count += 1
        kept = min(self._kept, self._count / (self._count + _FIRST))
        torch._foreach_lerp_(self._weights, self._now(), 1.0 - kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the module the averaged weights."""
        torch._foreach_copy_(self._now(), self._weights)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and the averaged ones; a second call undoes it."""
        now = [value.clone() for value in self._now()]
        self.settle()
        self._weights = now

    def _now(self) -> list[Tensor]:
        return [value.detach() for value in self._module.parameters()]
