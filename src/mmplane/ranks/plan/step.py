"""Steps: what every rank does for one plan, and the sequences that the schedule makes them of. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from mmplane.core.plan import Submit
from mmplane.ranks.plan.chain import Chain

SequenceId = tuple[int, int]
"""(request id, sample)."""


@dataclass
class Sequence:
    """One sample of one request. `computed` counts the tokens whose keys and values lie in its blocks."""

    id: SequenceId
    prompt_tokens: int
    samples: int
    chain: Chain
    blocks: array[int]
    kept: int
    """How many of its blocks it does not give back before it ends: those that it found computed."""
    computed: int
    published: int
    tokens: list[int] = field(default_factory=list)
    """Of the answer, those that were drawn."""

    @property
    def known(self) -> int:
        """Tokens that can be computed."""
        return self.prompt_tokens + len(self.tokens)

    @property
    def decodes(self) -> bool:
        """Whether the newest token is all that is left to compute."""
        return self.computed >= self.prompt_tokens and self.computed == self.known - 1


@dataclass(frozen=True)
class Prepared:
    """A request from the plan that prepares it to its end."""

    submit: Submit
    chain: Chain
    reused: array[int]
    """Blocks that it found computed. Its first sequence has them once it is admitted."""
    fragile: bool
    """Whether it cannot be computed again, and is never preempted."""


@dataclass(frozen=True)
class Segment:
    """`count` tokens of one sequence from position `start`: of its prompt, or `tokens` of its answer."""

    sequence: SequenceId
    start: int
    count: int
    tokens: tuple[int, ...]
    draws: int
    """How many samples are drawn from the logits after the segment's last token: 0 in the middle of a prompt."""
    blocks: array[int] = field(default_factory=lambda: array("q"), compare=False)
    """Where the sequence's positions lie, up to the segment's end."""


@dataclass(frozen=True)
class Step:
    """What every rank does for one plan: drop, copy blocks, compute the segments. What it prepares may take longer."""

    number: int
    drop: tuple[SequenceId, ...]
    drop_requests: tuple[int, ...]
    prepare: tuple[Submit, ...]
    segments: tuple[Segment, ...]
    drawn: tuple[SequenceId, ...]
    """Whose tokens the next plan carries, in its order."""
    reused_tokens: dict[int, int] = field(default_factory=dict)
    """Of each request that is prepared: the tokens of its prompt that are computed already."""
    copies: tuple[tuple[int, int], ...] = ()
    """(source, target) blocks to copy before anything is computed, in order."""


@dataclass
class Counts:
    """What happened since the start."""

    computed_tokens: int = 0
    reused_tokens: int = 0
    preemptions: int = 0
