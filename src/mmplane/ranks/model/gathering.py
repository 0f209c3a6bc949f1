"""What rank 0 alone needs of all ranks, by messages to it: gloo passes it to every rank, from thread to thread.

The sockets are those of `mmplane.ranks.model.sums`. Every rank uses them in the same order, so no message is taken for
another.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist

from mmplane.ranks.model.sums import BYTES_MAX


class Gathering:
    """One rank's sockets to all others, in the order of ranks, with their time limits set. Without any: one rank."""

    def __init__(self, rank: int = 0, peers: Sequence[socket.socket] = ()) -> None:
        self.rank = rank
        self.size = len(peers) + 1
        self._peers = peers

    def gather(self, part: torch.Tensor, widths: Sequence[int]) -> torch.Tensor | None:
        """On rank 0 the parts [rows, width] of all ranks side by side; None on the others.

        `widths` are those of all ranks, and `part` lies in host memory. Raises DistError when a rank is gone, or does
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
                        raise dist.DistError("a rank has gone, or sends something else")
        except OSError as error:
            raise dist.DistError(f"a rank does not take part: {error}") from error
        return whole


def _pieces(part: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of each row, in messages that a socket's buffer has room for."""
    for row in part:
        content = row.view(torch.uint8).numpy().data
        for start in range(0, len(content), BYTES_MAX):
            yield content[start : start + BYTES_MAX]
