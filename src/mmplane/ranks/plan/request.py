"""The leader's view of one request. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mmplane.core.errors import Failure
from mmplane.core.plan import Held, Submit
from mmplane.ranks.plan.embedding_table import Look


class Phase(Enum):
    """The phase of a request on the leader."""

    WAITING = "waiting"
    PREPARING = "preparing"
    RUNNING = "running"


@dataclass
class Request:
    """What the leader knows about one request."""

    submit: Submit
    phase: Phase = Phase.WAITING
    held: dict[int, Held] = field(default_factory=dict)
    aborted: bool = False
    awaits_parcel: bool = False
    reused: tuple[int, ...] = ()
    embeddings: Look = Look()  # noqa: RUF009 - frozen
    drawn: dict[int, int] = field(default_factory=dict)
    """The number of tokens so far, for each sample that is still running."""

    blocks: int = 0
    """The maximum that it takes: prompt and longest answer, with the full blocks of the prompt once for all samples."""
    found: tuple[int, ...] = ()
    """The blocks of its prompt that had been computed for an earlier request."""

    @property
    def failure(self) -> Failure | None:
        """The failure of the lowest rank that failed."""
        return next((held.failure for _, held in sorted(self.held.items()) if held.failure), None)
