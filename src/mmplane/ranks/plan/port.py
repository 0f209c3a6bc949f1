"""What a rank's loop asks of whatever computes: the one interface from `plan/` to `model/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from mmplane.core.errors import Failure
from mmplane.core.plan import Held, Submit
from mmplane.delivery.delivery import Features
from mmplane.ranks.plan.step import Step

Turn = Held | Future[Any] | None
"""What one turn of preparing a request gives: the end, something to wait for, or nothing yet."""


@dataclass(frozen=True)
class Drawn:
    """One token. Log probabilities are of the model's own logits: before temperature, penalties, bias and mask."""

    token: int
    logprob: float | None = None
    likely: tuple[tuple[int, float], ...] = ()
    """The most likely tokens with their log probabilities, the first most likely."""
    failure: Failure | None = None
    """Why its request cannot go on. The token is not the answer's then."""


class Model(Protocol):
    """A model on this rank, or what stands in its place."""

    def prepare(
        self,
        submit: Submit,
        features: Sequence[Features],
        *,
        keep: frozenset[int] = frozenset(),
        reused_tokens: int = 0,
    ) -> Iterator[Turn]:
        """Encode the request's items, one for each turn of the iterator; the last turn gives `Held`.

        `features` has one entry for each item: its tensors as they were delivered. A turn that gives a future has
        begun what goes on without the loop: the next turn may come when it is done. No collective is entered here, and
        what fails is this request's error alone: it is in `Held`, and nothing is raised.

        The embeddings of the items of `keep` are kept under their content keys, until `forget` names these. An item
        whose embeddings are there is not encoded.

        The first `reused_tokens` of the prompt are computed already and stay so until the request ends: an item that
        ends there is not encoded.
        """
        ...

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop the embeddings that lie under these content keys, of which no request that is held needs any."""
        ...

    @property
    def embedding_bytes(self) -> tuple[int, int]:
        """Bytes of embeddings on this rank: what is kept, and what passes."""
        ...

    def run(self, step: Step) -> tuple[Drawn, ...]:
        """Drop what the step drops, copy blocks, compute its segments; the tokens drawn, in the order of `step.drawn`.

        Every rank must call this for every step. Only rank 0's tokens count: the others return none.
        """
        ...
