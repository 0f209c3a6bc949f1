"""The interface between a rank's loop and whatever computes: the only one from `plan/` to `model/`."""

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
"""The result of one turn of preparing a request: the end, something to wait for, or nothing yet."""


@dataclass(frozen=True)
class Drawn:
    """One token. Log probabilities are of the model's own logits, before temperature, penalties, bias and mask."""

    token: int
    logprob: float | None = None
    likely: tuple[tuple[int, float], ...] = ()
    """The most likely tokens with their log probabilities, in descending order."""
    failure: Failure | None = None
    """Why its request cannot continue. In that case the token is not part of the answer."""


class Model(Protocol):
    """A model on this rank, or its replacement."""

    def prepare(
        self,
        submit: Submit,
        features: Sequence[Features],
        *,
        keep: frozenset[int] = frozenset(),
        reused_tokens: int = 0,
    ) -> Iterator[Turn]:
        """Encode the request's items, one in each turn of the iterator; the last turn gives `Held`.

        `features` has one entry for each item: its tensors as they were delivered. A turn that gives a future has
        started work that continues outside the loop; the next turn may come when it is done. No collective is entered
        here. A failure is this request's error only: it is in `Held`, and nothing is raised.

        The embeddings of the items in `keep` are kept under their content keys until `forget` names them. An item whose
        embeddings exist is not encoded.

        The first `reused_tokens` of the prompt are already computed, and stay so until the request ends. An item that
        ends within them is not encoded.
        """
        ...

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop the embeddings under these content keys, which no active request needs."""
        ...

    @property
    def embedding_bytes(self) -> tuple[int, int]:
        """The bytes of embeddings on this rank: those that are kept, and those that pass through."""
        ...

    def run(self, step: Step) -> tuple[Drawn, ...]:
        """Drop what the step drops, copy blocks, compute its segments. Returns the tokens in the order of `step.drawn`.

        Every rank must call this for every step. Only rank 0's tokens count; the others return none.
        """
        ...
