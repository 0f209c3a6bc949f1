"""Sends rank 0 what only rank 0 needs, by direct messages; gloo would send it to every rank, from thread to thread.

The sockets are those of `mmplane.ranks.model.sums`. Every rank uses them in the same order, so messages cannot be mixed
up.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist

from mmplane.ranks.model.sums import BYTES_MAX


class Gathering:
    """One rank's sockets to all others, in the order of ranks, with time limits set. Empty with one rank."""

    def __init__(self, rank: int = 0, peers: Sequence[socket.socket] = ()) -> None:
        self.rank = rank
        self.size = len(peers) + 1
        self._peers = peers

    def gather(self, part: torch.Tensor, widths: Sequence[int]) -> torch.Tensor | None:
        """On rank 0, the parts [rows, width] of all ranks side by side; None on the other ranks.

        `widths` are those of all ranks, and `part` must be in host memory. Raises DistError if a rank is gone, or does
        not answer in time.
        """
        try:
            if self.rank:
                for piece in _pieces(part):
                    self._peers[0].send(piece)
                return None
            whole = part.new_empty(len(part), sum(widths))
            own, *others = torch.split(whole, list(widths), dim=1)
            own.copy_(part)
            for peer, theirs in zip(self._peers, others, strict=True):
                for piece in _pieces(theirs):
                    if peer.recv_into(piece) != len(piece):
                        raise dist.DistError("a rank has ended, or sends a different tensor")
        except OSError as error:
            raise dist.DistError(f"a rank does not take part in a gathering: {error}") from error
        return whole


def _pieces(part: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of each row, in messages that fit into a socket's buffer."""
    for row in part:
        content = row.view(torch.uint8).numpy().data
        for start in range(0, len(content), BYTES_MAX):
            yield content[start : start + BYTES_MAX]
