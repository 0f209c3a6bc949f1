"""Small sums over all ranks, by messages between every two of them; gloo takes ten times as much CPU for one.

transformers adds up the ranks' results twice in each layer. A decoded token's sum is a kilobyte; gloo passes it around
a ring, from thread to thread. Here each rank sends its part to each other rank and adds up what it receives, in the
order of ranks, so that all get the same bits. Larger tensors, and tensors on a GPU, use gloo or NCCL as usual.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from transformers.distributed import tensor_parallel

BYTES_MAX = 64 * 1024
"""The limit on one message: it fits into a socket's buffer, so that all may send before anyone receives."""


class Sums:
    """One rank's sockets to all others, in the order of ranks."""

    def __init__(self, rank: int, peers: Sequence[socket.socket], *, limit: timedelta) -> None:
        self._rank = rank
        self._peers = peers
        for peer in peers:
            peer.settimeout(limit.total_seconds())

    def take(self, tensor: torch.Tensor) -> bool:
        """Make it the sum of all ranks' tensors, in place. False, on every rank alike, if gloo or NCCL must do it.

        Raises DistError if a rank is gone, or does not answer in time.
        """
        if tensor.device.type != "cpu" or tensor.nbytes > BYTES_MAX or not tensor.is_contiguous():
            return False
        parts = [torch.empty_like(tensor) for _ in self._peers]
        try:
            for peer in self._peers:
                peer.send(_bytes(tensor))
            for peer, part in zip(self._peers, parts, strict=True):
                if peer.recv_into(_bytes(part)) != tensor.nbytes:
                    raise dist.DistError("a rank has ended, or sums a different tensor")
        except OSError as error:
            raise dist.DistError(f"a rank does not take part in a sum over all ranks: {error}") from error
        parts.insert(self._rank, tensor)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        tensor.copy_(total)
        return True


class Collectives:
    """`torch.distributed` as transformers' layers see it, with our small sums."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def __getattr__(self, name: str) -> Any:
        return getattr(dist, name)

    def all_reduce(self, tensor: torch.Tensor, *, group: Any = None) -> None:
        """The sum, in place. The group must be that of all ranks."""
        if not self._sums.take(tensor):
            dist.all_reduce(tensor, group=group)


def use(sums: Sums) -> None:
    """From now on, transformers' layers in this process use these small sums."""
    tensor_parallel.dist = Collectives(sums)


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.view(-1).view(torch.uint8).numpy().data
