"""Samples tokens from logits: equal logits and an equal seed give equal tokens, whatever else is in the batch.

A token's weight is an integer: its probability relative to the most likely token, in units of 2**-32. Sums of integers
are exact (`nucleus`), so neither the order of a sum nor the shape of a batch changes a sample. On a CPU rows are
sampled one by one, because a row then stays in the processor's cache and needs no sort; elsewhere all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from blake3 import blake3

from mmplane.ranks.model.adjusting import adjusted
from mmplane.ranks.model.nucleus import BLOCK, Part, among, by_histogram, by_sorting, in_order
from mmplane.ranks.model.wanted import Wanted
from mmplane.ranks.plan.port import Drawn

UNIT = 2.0**32
"""The weight of the most likely token: the weights of two million tokens add up to less than 2**53."""
ONE_BY_ONE = frozenset({"cpu"})
"""Device types on which each row is sampled by itself."""
TEMPERATURE_MIN = 1e-30
"""Lower temperatures give the same tokens; the lowest that a client may send is 0 in float32."""


def draw(logits: torch.Tensor, wanted: Sequence[Wanted]) -> list[Drawn]:
    """One token for each row of logits [rows, vocabulary] (any float dtype) and each sample of that row, in order.

    Temperature 0 takes the largest logit, the first of equal ones. So does a row with a NaN or infinite logit, which
    must not end the rank. Other rows sample from the fewest most likely tokens that reach `top_p` (Holtzman et al.
    2020) of what `top_k` and `min_p` leave. The result only depends on (seed, sample, position), so a restart does not
    change it.
    """
    tokens: dict[int, list[int]] = {}
    for group in _groups(logits, wanted):
        wishes = [wanted[at] for at in group]
        rows = _rows(logits, wanted, group)
        drawn = _largest(rows, wishes) if wishes[0].temperature <= 0 else _sampled(rows.float(), wishes)
        tokens |= zip(group, drawn, strict=True)
    return [drawn for at, how in enumerate(wanted) for drawn in _with_logprobs(tokens[at], logits[at], how.logprobs)]


def _groups(logits: torch.Tensor, wanted: Sequence[Wanted]) -> Iterator[list[int]]:
    """Rows that one call samples: of one kind, and one by one if sampled on a CPU."""
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for at, how in enumerate(wanted):
        kinds.setdefault((how.temperature <= 0, how.temperature <= 0 or how.whole), []).append(at)
    for (greedy, _), group in kinds.items():
        if greedy or logits.device.type not in ONE_BY_ONE:
            yield group
        else:
            yield from ([at] for at in group)


def _rows(logits: torch.Tensor, wanted: Sequence[Wanted], group: list[int]) -> torch.Tensor:
    """The group's rows, adjusted. Nothing is copied if these are all rows, or one, unchanged from the model."""
    if not all(wanted[at].plain for at in group):
        return torch.stack(
            [logits[at].float() if wanted[at].plain else adjusted(logits[at], wanted[at]) for at in group]
        )
    if len(group) == 1:
        return logits[group[0]][None]
    return logits if len(group) == len(logits) else logits[group]


def largest_of(rows: torch.Tensor) -> torch.Tensor:
    """The index of the largest value of each row of [rows, values], the first of equal ones: int64 [rows]."""
    blocks = rows.shape[1] // BLOCK
    if not blocks:
        return rows.argmax(-1)
    # torch looks for an index value by value, but for the largest value 15 times as fast.
    tops = [rows[:, : blocks * BLOCK].view(len(rows), blocks, BLOCK).amax(-1)]
    if (rest := rows[:, blocks * BLOCK :]).shape[1]:
        tops.append(rest.amax(-1, keepdim=True))
    begin = torch.cat(tops, dim=1).argmax(-1, keepdim=True) * BLOCK
    inside = (begin + torch.arange(BLOCK, device=rows.device)).clamp_max_(rows.shape[1] - 1)
    return begin[:, 0] + rows.gather(1, inside).argmax(-1)


def _largest(rows: torch.Tensor, wanted: Sequence[Wanted]) -> list[list[int]]:
    largest: list[int] = largest_of(rows).tolist()
    return [[token] * len(how.samples) for token, how in zip(largest, wanted, strict=True)]


def _sampled(rows: torch.Tensor, wanted: Sequence[Wanted]) -> list[list[int]]:
    """Tokens for each row of float32 [rows, vocabulary]: all `whole`, or none."""
    top = rows.amax(-1, keepdim=True)
    finite = torch.isfinite(top)[:, 0].tolist()
    if not all(finite):
        pairs = zip(torch.split(rows, 1), ([how] for how in wanted), finite, strict=True)
        return [tokens for row, how, fine in pairs for tokens in (_sampled if fine else _largest)(row, how)]

    def column(values: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=rows.device)[:, None]

    behind = top - rows
    temperatures = column([max(how.temperature, TEMPERATURE_MIN) for how in wanted], torch.float32)
    weights = behind.div(-temperatures).exp_().mul_(UNIT).round_()
    points = torch.tensor(_points(wanted), dtype=torch.float64, device=rows.device)
    if wanted[0].whole:
        tokens = in_order(weights, points)
    else:
        vocabulary = rows.shape[1]
        part = Part(
            column([how.top_p for how in wanted]),
            column([how.top_k or vocabulary for how in wanted], torch.int64),
            column([how.min_p * UNIT for how in wanted]),
        )
        tokens = _of_part(behind, weights, part, points)
    return [drawn[: len(how.samples)] for drawn, how in zip(tokens.tolist(), wanted, strict=True)]


def _of_part(behind: torch.Tensor, weights: torch.Tensor, part: Part, points: torch.Tensor) -> torch.Tensor:
    if behind.device.type not in ONE_BY_ONE:
        return by_sorting(behind, weights, part, points)
    if int(part.top_k) < behind.shape[1] or float(part.min_weight):
        return among(behind[0], weights[0], part, points[0])[None]
    return by_histogram(behind[0], weights[0], float(part.top_p), points[0])[None]


def _points(wanted: Sequence[Wanted]) -> list[list[float]]:
    """The point in [0, 1) of each sample of each row; rows with fewer samples are padded."""
    width = max(len(how.samples) for how in wanted)
    rows = [[_point(how.seed, sample, how.position) for sample in how.samples] for how in wanted]
    return [row + [0.0] * (width - len(row)) for row in rows]


def _point(*parts: int) -> float:
    whole = b"".join(part.to_bytes(16, "little", signed=True) for part in parts)
    return (int.from_bytes(blake3(whole).digest(8), "little") >> 11) / 2.0**53


def _with_logprobs(tokens: list[int], row: torch.Tensor, count: int | None) -> list[Drawn]:
    if count is None:
        return [Drawn(token) for token in tokens]
    row = row.float().log_softmax(-1)
    values, ids = row.topk(min(count, len(row)))
    likely = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return [Drawn(token, float(row[token]), likely) for token in tokens]
