"""Sums over all ranks by messages between each two: the same bits everywhere, and an error when one is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mmplane.ranks.model import sums as module
from mmplane.ranks.model.sums import BYTES_MAX, Collectives, Sums
from mmplane.wire.group import GroupLinks
from mutation import Mutant, check_it_is_killed

RANKS = 4
LIMIT = timedelta(seconds=60)


@pytest.fixture
def ranks() -> Iterator[list[Sums]]:
    """All ranks of a group, here in threads of one process."""
    with closing(GroupLinks(RANKS)) as links:
        peers = [
            [socket.socket(fileno=os.dup(links.of(rank)[f"sums{other}"])) for other in range(RANKS) if other != rank]
            for rank in range(RANKS)
        ]
    yield [Sums(rank, each, limit=LIMIT) for rank, each in enumerate(peers)]
    for each in peers:
        for peer in each:
            peer.close()


def together(ranks: list[Sums], of_rank: Callable[[int], torch.Tensor], *, times: int = 1) -> list[torch.Tensor]:
    """What each rank has after so many sums, all at once."""

    def run(rank: int) -> torch.Tensor:
        tensor = of_rank(rank)
        for _ in range(times):
            assert ranks[rank].take(tensor)
        return tensor

    with ThreadPoolExecutor(RANKS) as threads:
        return list(threads.map(run, range(RANKS)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_have_the_same_sum(dtype: torch.dtype, ranks: list[Sums]) -> None:
    parts = torch.randn(RANKS, 3, 17, generator=torch.Generator().manual_seed(1)).to(dtype)
    want = ((parts[0] + parts[1]) + parts[2]) + parts[3]
    assert all(torch.equal(found, want) for found in together(ranks, lambda rank: parts[rank].clone()))


def test_the_largest_message_holds_nobody_up(ranks: list[Sums]) -> None:
    found = together(ranks, lambda _: torch.ones(BYTES_MAX // 4), times=20)
    assert all(torch.equal(each, torch.full_like(each, RANKS**20)) for each in found)


def test_a_rank_that_is_gone_is_an_error(ranks: list[Sums]) -> None:
    for peer in ranks[3]._peers:
        peer.close()
    with pytest.raises(dist.DistError):
        ranks[0].take(torch.ones(4))


def test_a_rank_that_does_not_answer_is_an_error(ranks: list[Sums]) -> None:
    for peer in ranks[0]._peers:
        peer.settimeout(0.01)
    with pytest.raises(dist.DistError):
        ranks[0].take(torch.ones(4))


@pytest.mark.parametrize("tensor", [torch.ones(BYTES_MAX // 4 + 1), torch.ones(4, 4).T[:2]])
def test_what_is_large_or_scattered_goes_the_usual_way(
    tensor: torch.Tensor, ranks: list[Sums], monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced: list[Any] = []
    monkeypatch.setattr(module.dist, "all_reduce", lambda tensor, group: reduced.append((tensor, group)))
    Collectives(ranks[0]).all_reduce(tensor, group="all")
    assert [(each.shape, group) for each, group in reduced] == [(tensor.shape, "all")]


def test_another_order_of_adding_up_is_found_out(request: pytest.FixtureRequest) -> None:
    piece, instead = "parts.insert(self._rank, tensor)", "parts.insert(0, tensor)"
    killer, arguments = test_all_have_the_same_sum, (torch.float32,)
    check_it_is_killed(Mutant("the order of ranks", Sums.take, piece, instead, killer, arguments), request)
