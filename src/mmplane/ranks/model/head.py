"""The last layer, from hidden states to logits, and the logits that rank 0 needs to sample tokens.

With several ranks on a CPU, each computes the logits of its share of the vocabulary. If only the largest logit of a row
matters, a rank sends its token and value; other rows are sent to rank 0 in full. transformers sends all logits to all
ranks, which is left as it is on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard
from torch.nn.functional import linear

from mmplane.ranks.model.divided import local, widths
from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.sampling import largest_of


@dataclass(frozen=True)
class Scores:
    """The scores of the rows that sample, on rank 0."""

    largest: list[int]
    """The token with the largest logit, for each row where only that matters."""
    logits: torch.Tensor
    """The logits of the other rows, [rows, vocabulary]."""


@dataclass(frozen=True)
class Share:
    """One rank's part of the last layer: weight [tokens, hidden], bias [tokens], and all ranks' numbers of tokens."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    widths: tuple[int, ...]

    @classmethod
    def of(cls, layer: Any, gathering: Gathering) -> Share | None:
        """None if the layer is not split by tokens, or is on a GPU."""
        weight = layer.weight
        if type(layer) is not torch.nn.Linear or not isinstance(weight, DTensor) or weight.device.type != "cpu":
            return None
        if gathering.size == 1 or weight.placements != (Shard(0),):
            return None
        return cls(local(weight), local(layer.bias), widths(len(weight), gathering.size))


class Head:
    """The last layer of a model on this rank."""

    def __init__(self, layer: Any, gathering: Gathering, share: Share | None = None) -> None:
        self._layer = layer
        self._gathering = gathering
        self._share = share or Share.of(layer, gathering)

    def __call__(self, hidden: torch.Tensor, largest: Sequence[bool]) -> Scores | None:
        """The scores of hidden states [1, rows, size]; `largest` is true for rows where only the largest logit matters.

        Returns None on all ranks except rank 0. Every rank must call it with the same rows.
        """
        share = self._share
        logits = self._layer(hidden)[0] if share is None else linear(hidden, share.weight, share.bias)[0]
        greedy, others = (_rows(logits, [each is wanted for each in largest]) for wanted in (True, False))
        if share is not None:
            tokens, whole = self._largest(greedy, share), self._whole(others, share)
        else:
            tokens, whole = largest_of(greedy).tolist(), others
        return Scores(tokens, whole) if self._gathering.rank == 0 else None

    def _whole(self, logits: torch.Tensor, share: Share) -> torch.Tensor:
        whole = self._gathering.gather(logits, share.widths) if len(logits) else None
        return logits if whole is None else whole

    def _largest(self, logits: torch.Tensor, share: Share) -> list[int]:
        """The token of each row's largest logit, the first of equal ones; empty except on rank 0.

        A rank sends its own values as float64, which represents both a logit and an index exactly.
        """
        rows, size = len(logits), self._gathering.size
        if not rows:
            return []
        own = torch.full((2, rows), float("-inf"), dtype=torch.float64)
        if logits.shape[1]:
            tokens = largest_of(logits)
            own[0] = logits.gather(1, tokens[:, None])[:, 0]
            own[1] = tokens + sum(share.widths[: self._gathering.rank])
        found = self._gathering.gather(own.view(1, -1), [own.numel()] * size)
        if found is None:
            return []
        values, each = found.view(size, 2, rows).unbind(1)
        best: list[int] = each.gather(0, values.argmax(0, keepdim=True))[0].long().tolist()
        return best


def _rows(logits: torch.Tensor, wanted: Sequence[bool]) -> torch.Tensor:
    """The wanted rows. Nothing is copied if these are all rows."""
    return logits if all(wanted) else logits[[at for at, each in enumerate(wanted) if each]]
