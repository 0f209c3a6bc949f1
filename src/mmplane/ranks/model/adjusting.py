"""Adjusts logits for a request: a mask, a bias, and penalties for tokens that the text already contains."""

from __future__ import annotations

import torch

from mmplane.ranks.model.wanted import Penalties, Wanted


def adjusted(row: torch.Tensor, how: Wanted) -> torch.Tensor:
    """A new row of logits [vocabulary], float32, with mask, then bias, then penalties applied, in vLLM's order."""
    row = row.float().clone()
    if how.allowed is not None:
        row[: len(how.allowed)].masked_fill_(~how.allowed.to(row.device), float("-inf"))
        row[len(how.allowed) :] = float("-inf")
    if how.banned:
        row[list(how.banned)] = float("-inf")
    if how.bias:
        tokens = torch.tensor(list(how.bias), device=row.device)
        row[tokens] += torch.tensor(list(how.bias.values()), device=row.device)
    if how.penalties is not None:
        _penalise(row, how.penalties)
    return row


def _penalise(row: torch.Tensor, penalties: Penalties) -> None:
    tokens, counts = penalties.tokens.to(row.device), penalties.counts.to(row.device)
    logits = row[tokens]
    if penalties.repetition != 1.0:
        logits = torch.where(logits > 0, logits / penalties.repetition, logits * penalties.repetition)
    row[tokens] = logits - (penalties.presence * (counts > 0) + penalties.frequency * counts)
