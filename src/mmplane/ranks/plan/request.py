"""One request, as the leader knows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mmplane.core.errors import Failure
from mmplane.core.plan import Held, Submit
from mmplane.ranks.plan.embedding_table import Look


class Phase(Enum):
    """Where a request stands with the leader."""

    WAITING = "waiting"
    PREPARING = "preparing"
    RUNNING = "running"


@dataclass
class Request:
    """What the leader knows of one request."""

    submit: Submit
    phase: Phase = Phase.WAITING
    held: dict[int, Held] = field(default_factory=dict)
    aborted: bool = False
    awaits_parcel: bool = False
    reused: tuple[int, ...] = ()
    embeddings: Look = Look()  # noqa: RUF009 - frozen
    drawn: dict[int, int] = field(default_factory=dict)
    """Tokens drawn so far, by sample that is still running."""

    blocks: int = 0
    """What it takes at most: prompt and longest answer, the whole blocks of the prompt once for all samples."""
    found: tuple[int, ...] = ()
    """Blocks of its prompt that had been computed for an earlier request."""

    @property
    def failure(self) -> Failure | None:
        """The first rank's failure, in rank order."""
        return next((held.failure for _, held in sorted(self.held.items()) if held.failure), None)
