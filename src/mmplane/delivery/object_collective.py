"""The object collective of the incident: `broadcast_object_list`, which pickles. The only file that may (invariant 11).

It is used between the ranks of one process group alone: all are forked from one process, and nobody else can join.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from mmplane.core.errors import Failure
from mmplane.core.faults import Fault
from mmplane.delivery.attempt import attempt
from mmplane.delivery.faults import strike
from mmplane.delivery.ports import Broadcast


class Envelope:
    """A payload that pickles itself, and when it cannot, its failure: so that the collective is entered either way.

    The price is one more copy of the pickled bytes on each side.
    """

    def __init__(self, payload: object, fault: Fault | None) -> None:
        self.payload = payload
        self._fault = fault

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        raw = attempt(self._pickled)
        if isinstance(raw, Failure):
            self.payload = raw
            raw = pickle.dumps(raw)
        return _open, (raw,)

    def _pickled(self) -> bytes:
        strike(self._fault, "in_collective", 0)
        return pickle.dumps(self.payload)


def _open(raw: bytes) -> object:
    return attempt(lambda: pickle.loads(raw))  # noqa: S301 - from the leader of this group


class ObjectBroadcast(Broadcast):
    """Over one process group of torch, whose source is its rank 0. Without a group there is one rank, and no call."""

    def __init__(self, group: Any, rank: int) -> None:
        self._group = group
        self._rank = rank

    def __call__(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        """One `broadcast_object_list` for all payloads, each in an envelope of its own."""
        if self._group is None:
            return list(payloads)
        if self._rank == 0:
            envelopes = [Envelope(payload, fault) for payload, fault in zip(payloads, faults, strict=True)]
            self._broadcast(list(envelopes))
            return [envelope.payload for envelope in envelopes]
        received: list[object] = [None] * len(payloads)
        self._broadcast(received)
        struck = [attempt(lambda fault=fault: strike(fault, "in_collective", self._rank)) for fault in faults]  # type: ignore[misc]
        return [failure or payload for failure, payload in zip(struck, received, strict=True)]

    def _broadcast(self, objects: list[object]) -> None:
        dist.broadcast_object_list(objects, src=0, group=self._group, device=torch.device("cpu"))
