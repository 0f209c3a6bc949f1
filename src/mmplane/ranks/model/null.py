"""A runner without a model: it reads every page of the features and answers at once, or after a fixed time.

It isolates the data plane: the remaining cost of a request is the cost of mmplane itself. `sim:MS` makes each step take
that long, so that anything that blocks a rank's loop shows as it would beside a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import torch

from mmplane.core.errors import Failure, internal
from mmplane.core.faults import InjectedFault
from mmplane.core.plan import Held, Submit, Work
from mmplane.core.records import Enclosed, Item, Modality
from mmplane.delivery.delivery import Features
from mmplane.delivery.faults import strike
from mmplane.ranks.model.rebuild import Rebuild
from mmplane.ranks.plan.hashing import Hashing
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.port import Drawn, Turn
from mmplane.ranks.plan.step import Step

PAGE_BYTES = 4096
TOKEN = 64
"""The letter a, if each byte is a token (`tiny`): a token with text, so that a stream shows when each token came."""


class NullRunner:
    """Replaces `Runner`; all its tokens are the same."""

    def __init__(
        self, *, rank: int, clock: LoopClock, rebuild: Mapping[Modality, Rebuild], step_ms: float = 0.0
    ) -> None:
        self._clock = clock
        self._hashing = Hashing(clock)
        self._rebuild = rebuild
        self._rank = rank
        self._step_s = step_ms / 1000
        self.touched = 0

    embedding_bytes = 0, 0
    """It makes no embeddings."""

    def forget(self, keys: Sequence[bytes]) -> None:
        """Do nothing: there are no embeddings."""

    def prepare(
        self,
        submit: Submit,
        features: Sequence[Features],
        *,
        keep: frozenset[int] = frozenset(),  # noqa: ARG002 - it makes no embeddings
        reused_tokens: int = 0,  # noqa: ARG002 - what is measured is how the features came
    ) -> Iterator[Turn]:
        """Read one byte of every page of each item, in the form and order in which a model would read them."""
        digests: tuple[bytes, ...] = ()
        failure: Failure | None = None
        taken: list[torch.Tensor] = []
        try:
            for item, tensors in zip(submit.items, features, strict=True):
                strike(submit.fault, "encode", self._rank)
                with self._clock.computing():
                    taken.append(self._restored(item, tensors))
                    for tensor in (taken[-1], *list(tensors.values())[1:]):
                        self.touched += int(tensor.flatten().view(torch.uint8)[::PAGE_BYTES].sum())
                yield None
            if submit.digested_by(self._rank):
                hashed = self._hashing.begin(lambda: taken)
                yield hashed
                digests = hashed.result()
        except InjectedFault:
            failure = internal("this request could not be prepared (InjectedFault)").failure()
        yield Held(submit.request_id, self._rank, digests, failure, Work(encoded=len(taken)))

    def _restored(self, item: Item | Enclosed, tensors: Features) -> torch.Tensor:
        """The first tensor, which holds the features, in the form that a model takes."""
        stored = tensors[item.tensors[0].name]
        return self._rebuild[item.modality](stored) if stored.dtype == torch.uint8 else stored

    def run(self, step: Step) -> tuple[Drawn, ...]:
        """One token for each sample."""
        if step.segments and self._step_s:
            time.sleep(self._step_s)
        return tuple(Drawn(TOKEN) for _ in step.drawn) if self._rank == 0 else ()
