"""Ranks that each have a share of the vocabulary: rank 0 comes to what it would come to with all of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn import Linear

from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.head import Head, Scores, Share
from mmplane.ranks.model.sums import BYTES_MAX, Sums
from mmplane.wire.group import GroupLinks
from mutation import Mutant, check_it_is_killed

LIMIT = timedelta(seconds=60)
HIDDEN = 8
NAN, INF = float("nan"), float("inf")


@contextmanager
def group(size: int) -> Iterator[list[Gathering]]:
    """All ranks of a group, here in threads of one process."""
    with closing(GroupLinks(size)) as links:
        peers = [
            [socket.socket(fileno=os.dup(links.of(rank)[f"sums{other}"])) for other in range(size) if other != rank]
            for rank in range(size)
        ]
    for rank, each in enumerate(peers):
        Sums(rank, each, limit=LIMIT)  # which sets the limit
    try:
        yield [Gathering(rank, each) for rank, each in enumerate(peers)]
    finally:
        for each in peers:
            for peer in each:
                peer.close()


def at_once(size: int, do: Callable[[Gathering], Any]) -> list[Any]:
    with group(size) as ranks, ThreadPoolExecutor(size) as threads:
        return list(threads.map(do, ranks))


def shares(weight: torch.Tensor, bias: torch.Tensor | None, size: int) -> list[Share]:
    """As the ranks have them: like `torch.chunk`, and nothing on those that are left over."""
    parts = [*weight.chunk(size), *[weight[:0]] * size][:size]
    widths = tuple(map(len, parts))
    biases = [None] * size if bias is None else torch.split(bias, list(widths))
    return [Share(*each, widths) for each in zip(parts, biases, strict=True)]


def scores(size: int, weight: torch.Tensor, hidden: torch.Tensor, largest: list[bool]) -> Scores:
    """What rank 0 of so many comes to."""
    of_rank = shares(weight, None, size)

    def run(gathering: Gathering) -> Scores | None:
        return Head(None, gathering, of_rank[gathering.rank] if size > 1 else None)(hidden, largest)

    found, *others = at_once(size, run) if size > 1 else [Head(linear_of(weight), Gathering())(hidden, largest)]
    assert found is not None
    assert others == [None] * (size - 1), "only rank 0 draws"
    return found


def linear_of(weight: torch.Tensor) -> Linear:
    layer = Linear(weight.shape[1], len(weight), bias=False)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    return layer


def whole_numbers(*shape: int) -> torch.Tensor:
    """Sums of products of these are exact, and many are equal."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(sum(shape))).float()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("vocabulary", [5, 6, 97, 320])
@pytest.mark.parametrize("kinds", ["greedy", "sampled", "mixed"])
def test_any_number_of_ranks_comes_to_the_same(size: int, vocabulary: int, kinds: str) -> None:
    """Of equal logits the first one counts, on whichever ranks they are. 5 tokens leave one of 4 ranks without any."""
    weight, hidden = whole_numbers(vocabulary, HIDDEN), whole_numbers(1, 16, HIDDEN)
    largest = [kinds == "greedy" or (kinds == "mixed" and row % 3 > 0) for row in range(16)]
    logits = (hidden @ weight.T)[0]
    found = scores(size, weight, hidden, largest)
    greedy = torch.tensor(largest)
    assert found.largest == logits[greedy].argmax(-1).tolist()
    assert torch.equal(found.logits, logits[~greedy]) or kinds == "greedy"
    assert len(found.logits) == int((~greedy).sum())


@pytest.mark.parametrize("size", [2, 4])
def test_logits_that_are_not_finite_count_as_in_one_row(size: int) -> None:
    values = [[1, NAN, 3, NAN], [-INF, -INF, -INF, -INF], [0, INF, INF, 1], [2, 1, 0, NAN], [-INF, -INF, 5, 5]]
    rows = torch.tensor(values)
    parts, of_rank = rows.chunk(size, dim=1), shares(torch.zeros(4, HIDDEN), None, size)

    def run(gathering: Gathering) -> list[int]:
        share = of_rank[gathering.rank]
        return Head(None, gathering, share)._largest(parts[gathering.rank], share)

    assert at_once(size, run) == [rows.argmax(-1).tolist(), *[[]] * (size - 1)]


def test_a_row_is_longer_than_a_message() -> None:
    """And there are more of them than a socket's buffer has room for."""
    widths = (BYTES_MAX // 2, BYTES_MAX // 2 + 1)
    parts = [torch.randn(8, width, generator=torch.Generator().manual_seed(width)) for width in widths]
    whole, nothing = at_once(2, lambda gathering: gathering.gather(parts[gathering.rank], widths))
    assert torch.equal(whole, torch.cat(parts, dim=1))
    assert nothing is None


def test_a_rank_that_is_gone_is_an_error() -> None:
    with group(2) as (leader, follower):
        follower._peers[0].close()
        with pytest.raises(dist.DistError):
            leader.gather(torch.ones(1, 2), (2, 2))
    with group(2) as (leader, follower):
        leader._peers[0].close()
        with pytest.raises(dist.DistError):
            follower.gather(torch.ones(1, 2), (2, 2))


def test_a_rank_that_does_not_answer_is_an_error() -> None:
    with group(2) as (leader, _):
        leader._peers[0].settimeout(0.01)
        with pytest.raises(dist.DistError):
            leader.gather(torch.ones(1, 2), (2, 2))


MUTANTS = [
    Mutant(
        "the last of equal logits",
        Head._largest,
        "values.argmax(0, keepdim=True)",
        "(len(values) - 1 - values.flip(0).argmax(0, keepdim=True))",
        test_any_number_of_ranks_comes_to_the_same,
        (2, 97, "greedy"),
    ),
    Mutant(
        "an index within a rank's share",
        Head._largest,
        "tokens + sum(share.widths[: self._gathering.rank])",
        "tokens",
        test_any_number_of_ranks_comes_to_the_same,
        (4, 320, "mixed"),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_another_token_is_found_out(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
