"""From weights to tokens: the part of the vocabulary that may be sampled, and the token at each point of it.

Weights are integers in float32 whose sum is below 2**53, so float64 adds them exactly in any order. `behind` is the
distance of each logit from the largest: 0 or more, inf for masked ones. Points are float64 in [0, 1), one for each
token to sample. If only a part of the vocabulary is used, tokens are ordered by `behind`, equal ones by id.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

BLOCK = 512
KEY_BITS = 15
"""The buckets of the histogram: the exponent of float32 and 7 bits of its fraction."""


@dataclass(frozen=True)
class Part:
    """The part of the vocabulary to sample from, for each row [rows, 1]: `top_p` of what `top_k` and `min_p` leave."""

    top_p: torch.Tensor
    top_k: torch.Tensor
    min_weight: torch.Tensor


def in_order(weights: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Tokens [rows, points] from weights [rows, vocabulary] and points [rows, points], in the order of token ids.

    Sums of blocks find the block, and a running sum inside it finds the token.
    """
    blocks = pad(weights, (0, -weights.shape[1] % BLOCK)).view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64)
    ends = sums.cumsum(-1)
    target = _target(points, ends[:, -1:])
    block = torch.searchsorted(ends, target, right=True)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK)).double().cumsum(-1)
    rest = target - (ends - sums).gather(1, block)
    return block * BLOCK + torch.searchsorted(inside, rest[..., None], right=True)[..., 0]


def by_sorting(behind: torch.Tensor, weights: torch.Tensor, part: Part, points: torch.Tensor) -> torch.Tensor:
    """Tokens [rows, points] from `behind` and weights [rows, vocabulary], by sorting the whole vocabulary."""
    tokens = behind.sort(stable=True).indices
    ordered = weights.gather(1, tokens)
    ends = ordered.double().cumsum(-1)
    ranks = torch.arange(ends.shape[1], device=ends.device)
    left = ((ranks < part.top_k) & (ordered >= part.min_weight)).sum(-1, keepdim=True).clamp_min(1)
    limit = part.top_p * ends.gather(1, left - 1)
    # A token stays if the weight before it is below the limit, so at least one always stays.
    kept = torch.minimum(left, (ends - ordered < limit).sum(-1, keepdim=True).clamp_min(1))
    target = _target(points, ends.gather(1, kept - 1))
    return tokens.gather(1, torch.searchsorted(ends, target, right=True))


def by_histogram(behind: torch.Tensor, weights: torch.Tensor, top_p: float, points: torch.Tensor) -> torch.Tensor:
    """The same tokens as `by_sorting` for one row with only `top_p`, without sorting the vocabulary."""
    keys = behind.view(torch.int32) >> (31 - KEY_BITS)
    sums = torch.zeros(1 << KEY_BITS, dtype=torch.float64).scatter_add_(0, keys.long(), weights.double())
    ends = sums.cumsum(0)
    limit = top_p * ends[-1:]

    def opened(bucket: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The bucket's tokens in order, and the weight before and up to each."""
        tokens = (keys == bucket).nonzero()[:, 0]
        tokens = tokens[behind[tokens].sort(stable=True).indices]
        own = weights[tokens].double()
        until = own.cumsum(0) + (ends - sums)[bucket]
        return tokens, until - own, until

    _, before, until = opened(torch.searchsorted(ends, limit))
    kept = until[(before < limit).sum().clamp_min(1) - 1]
    drawn = []
    for target in torch.split(_target(points, kept), 1):
        tokens, _, until = opened(torch.searchsorted(ends, target, right=True))
        drawn.append(tokens[torch.searchsorted(until, target, right=True)])
    return torch.cat(drawn)


def among(behind: torch.Tensor, weights: torch.Tensor, part: Part, points: torch.Tensor) -> torch.Tensor:
    """The same tokens as `by_sorting` for one row, sorting only what `top_k` and `min_p` leave."""
    count = min(int(part.top_k), len(behind))
    farthest = behind.topk(count, largest=False, sorted=False).values.max() if count < len(behind) else float("inf")
    tokens = ((behind <= farthest) & (weights >= part.min_weight[0])).nonzero()[:, 0]
    return tokens[by_sorting(behind[tokens][None], weights[tokens][None], part, points[None])[0]]


def _target(points: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """An integer from 0 to below the total; the product may round up to it."""
    return torch.minimum((points * total).floor(), total - 1)
