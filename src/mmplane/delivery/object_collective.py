"""The incident's object collective, which pickles. No other file may do so (invariant 11).

It does the same as `torch.distributed.broadcast_object_list`, at the same cost (`benchmarks/collective.py` compares
them): each payload is pickled once, the lengths are broadcast, then the bytes. There are two differences: a payload
that cannot be pickled or read is the failure of its own request, and every rank always enters both broadcasts.

It is only used between the ranks of one process group: all are forked from one process, and nobody else can join.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from mmplane.core.errors import Failure
from mmplane.core.faults import Fault
from mmplane.delivery.attempt import attempt
from mmplane.delivery.faults import strike
from mmplane.delivery.meter import Meter
from mmplane.delivery.ports import Broadcast


class ObjectBroadcast(Broadcast):
    """An object broadcast over one torch process group. Its leader is rank 0 of the group and global rank `source`.

    Without a group there is one rank, and no call.
    """

    def __init__(
        self,
        group: Any,
        rank: int,
        meter: Meter | None = None,
        *,
        source: int = 0,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._group = group
        self._rank = rank
        self._source = source
        self._meter = meter or Meter()
        self._now_s = now_s

    def __call__(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        """Run two broadcasts for all payloads together: their lengths, then their bytes."""
        if self._group is None:
            return list(payloads)
        return self._send(payloads, faults) if self._rank == 0 else self._receive(faults)

    def _send(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        began_s = self._now_s()
        sent, contents = [], []
        for payload, fault in zip(payloads, faults, strict=True):
            content = attempt(partial(_pickled, payload, fault))
            if isinstance(content, Failure):
                payload, content = content, _pickled(content)
            sent.append(payload)
            contents.append(content)
        pickled_s = self._now_s()
        self._broadcast(torch.tensor([len(content) for content in contents]))
        known_s = self._now_s()
        self._broadcast(contents[0] if len(contents) == 1 else torch.cat(contents))
        self._meter.collective(
            len(sent), pickle_s=pickled_s - began_s, wait_s=known_s - pickled_s, transfer_s=self._now_s() - known_s
        )
        return sent

    def _receive(self, faults: Sequence[Fault | None]) -> list[object]:
        began_s = self._now_s()
        lengths = torch.empty(len(faults), dtype=torch.int64)
        self._broadcast(lengths)
        known_s = self._now_s()
        content = torch.empty(int(lengths.sum()), dtype=torch.uint8)
        self._broadcast(content)
        came_s = self._now_s()
        parts = torch.split(content, lengths.tolist())
        received = [attempt(partial(_read, part, fault, self._rank)) for part, fault in zip(parts, faults, strict=True)]
        self._meter.collective(
            len(received), pickle_s=self._now_s() - came_s, wait_s=known_s - began_s, transfer_s=came_s - known_s
        )
        return received

    def _broadcast(self, tensor: torch.Tensor) -> None:
        dist.broadcast(tensor, src=self._source, group=self._group)


def _pickled(payload: object, fault: Fault | None = None) -> torch.Tensor:
    strike(fault, "in_collective", 0)
    buffer = io.BytesIO()
    pickle.Pickler(buffer).dump(payload)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8).clone()  # torch's own call makes this copy too


def _read(content: torch.Tensor, fault: Fault | None, rank: int) -> object:
    strike(fault, "in_collective", rank)
    copied = content.numpy().tobytes()  # torch's own call makes this copy too
    return pickle.Unpickler(io.BytesIO(copied)).load()  # noqa: S301 - from the leader of this group
