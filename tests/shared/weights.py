"""Random weights of a larger scale than usual: small ones give nearly flat logits, whatever the model is shown."""

from __future__ import annotations

import torch


def enlarge(model: torch.nn.Module, *, head: float) -> None:
    """Each matrix four times as large, and the last of them `head` times."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.mul_(head if "lm_head" in name else 4.0)
