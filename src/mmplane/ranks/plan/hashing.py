"""Digests beside the loop: hashing an item takes milliseconds in which no other request would get its token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mmplane.process.priority import step_back
from mmplane.ranks.plan.inbox import digest
from mmplane.ranks.plan.loop import LoopClock


class Hashing:
    """One thread of a rank. Requests wait for it, not the loop; as many as are in flight can wait."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "digests", initializer=step_back)

    def begin(self, features: Callable[[], Iterable[torch.Tensor]]) -> Future[tuple[bytes, ...]]:
        """The digest of each tensor. `features` is called in the thread; nobody may write into them meanwhile."""
        return self._thread.submit(self._hash, features)

    def _hash(self, features: Callable[[], Iterable[torch.Tensor]]) -> tuple[bytes, ...]:
        with self._clock.verify():
            return tuple(map(digest, features()))
