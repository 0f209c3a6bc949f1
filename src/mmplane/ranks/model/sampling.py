"""Drawing a token from logits: the same for the same seed, whatever else is in the batch."""

from __future__ import annotations

import torch
from blake3 import blake3

from mmplane.core.plan import Sampling


def draw(logits: torch.Tensor, sampling: Sampling, *, sample: int, position: int) -> int:
    """One token from logits of shape [vocabulary], float32.

    Temperature 0 takes the largest; so do logits that are no numbers, rather than to end the rank. Otherwise nucleus
    sampling (Holtzman et al. 2020): the smallest set of tokens whose probability reaches `top_p`. The generator is
    seeded by (seed, sample, position) alone, so that neither the batch nor a restart changes what a seed gives.
    """
    if sampling.temperature <= 0 or not torch.isfinite(logits.max()):
        return int(logits.argmax())
    # The largest becomes 0 before it is divided: the smallest temperature cannot overflow it.
    scaled = (logits.double() - logits.max()) / sampling.temperature
    probabilities = torch.softmax(scaled, dim=-1)
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    # Keep a token while the mass before it is below top_p: always at least one.
    ordered = torch.where(ordered.cumsum(-1) - ordered < sampling.top_p, ordered, 0.0)
    generator = torch.Generator().manual_seed(_seed(sampling.seed, sample, position))
    return int(tokens[torch.multinomial(ordered.cpu(), 1, generator=generator).item()])  # type: ignore[index]


def _seed(*parts: int) -> int:
    whole = b"".join(part.to_bytes(16, "little", signed=True) for part in parts)
    return int.from_bytes(blake3(whole).digest(8), "little") >> 1
