"""A runner without a model: it touches every page of the features and answers at once, or after a fixed time.

It isolates the data plane: what is left of a request's cost with it is what mmplane itself costs. `sim:MS` makes each
step take that long, so that whatever holds a rank's loop up shows as it would beside a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from mmplane.core.plan import Held, Submit
from mmplane.ranks.inbox import Inbox, digest
from mmplane.ranks.schedule import Step

PAGE_BYTES = 4096
TOKEN = ord("a")


class NullRunner:
    """Stands where `Runner` stands; every token it draws is the same."""

    def __init__(self, inbox: Inbox, *, rank: int, step_ms: float = 0.0) -> None:
        self._inbox = inbox
        self._rank = rank
        self._step_s = step_ms / 1000
        self.touched = 0

    def prepare(self, submit: Submit) -> Iterator[Held | None]:
        """Read one byte of every page of each item, as a model would read them all."""
        digests: tuple[bytes, ...] = ()
        for item in submit.items:
            for tensor in self._inbox.tensors(item).values():
                self.touched += int(tensor.flatten().view(torch.uint8)[::PAGE_BYTES].sum())
            yield None
        if submit.digests:
            features = (self._inbox.tensors(item)[item.tensors[0].name] for item in submit.items)
            digests = tuple(digest(tensor) for tensor in features)
        yield Held(submit.request_id, self._rank, digests, None)

    def run(self, step: Step) -> tuple[int, ...]:
        """One token for each sample that draws."""
        if step.segments and self._step_s:
            time.sleep(self._step_s)
        return tuple(TOKEN for _ in step.drawn) if self._rank == 0 else ()
