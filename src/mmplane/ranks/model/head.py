"""The last layer, from hidden states to logits, and what rank 0 needs of it to draw tokens.

With several ranks on a CPU each computes the logits of its share of the vocabulary. Where the largest logit is all that
counts, a rank says which token has it and how large it is; other rows go to rank 0. transformers passes all logits to
all ranks, which is left as it is on a GPU.
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
    """What the rows that draw come to, on rank 0."""

    largest: list[int]
    """The token of the largest logit, of those rows where that is all that counts."""
    logits: torch.Tensor
    """Of the other rows, [rows, vocabulary]."""


@dataclass(frozen=True)
class Share:
    """One rank's part of the last layer: weight [tokens, hidden], bias [tokens], and how many tokens each rank has."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    widths: tuple[int, ...]

    @classmethod
    def of(cls, layer: Any, gathering: Gathering) -> Share | None:
        """None where the layer is not divided by tokens, or lies on a GPU."""
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
        """Of hidden states [1, rows, size]; `largest` says of each row whether its largest logit is all that counts.

        None on all ranks but rank 0. Every rank must call it with the same rows.
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
        """The token of each row's largest logit, the first of equal ones; none but on rank 0.

        A rank sends its own as numbers of float64, which holds both a logit and an index exactly.
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
    """Those rows that are wanted; nothing is copied if these are all."""
    return logits if all(wanted) else logits[[at for at, each in enumerate(wanted) if each]]
