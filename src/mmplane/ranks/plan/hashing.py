"""Computes digests in a thread, because hashing an item in the loop would delay other requests by milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mmplane.process.priority import step_back
from mmplane.ranks.plan.inbox import digest
from mmplane.ranks.plan.loop import LoopClock


class Hashing:
    """One thread of a rank. Requests wait for it, but the loop does not; all requests in flight may wait."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "digests", initializer=step_back)

    def begin(self, features: Callable[[], Iterable[torch.Tensor]]) -> Future[tuple[bytes, ...]]:
        """The digest of each tensor. Calls `features` in the thread; nobody may write to them in the meantime."""
        return self._thread.submit(self._hash, features)

    def _hash(self, features: Callable[[], Iterable[torch.Tensor]]) -> tuple[bytes, ...]:
        with self._clock.verify():
            return tuple(map(digest, features()))
