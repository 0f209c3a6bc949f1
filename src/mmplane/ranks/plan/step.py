"""Steps: what every rank does for one plan, and the sequences from which the schedule makes them. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from mmplane.core.plan import Submit
from mmplane.ranks.plan.chain import Chain

SequenceId = tuple[int, int]
"""(request id, sample)."""


@dataclass
class Sequence:
    """One sample of one request. `computed` is the number of tokens whose keys and values are in its blocks."""

    id: SequenceId
    prompt_tokens: int
    samples: int
    chain: Chain
    blocks: array[int]
    kept: int
    """The number of blocks that it does not give back before it ends: those that it reused."""
    computed: int
    published: int
    tokens: list[int] = field(default_factory=list)
    """The tokens of the answer that have been sampled."""

    @property
    def known(self) -> int:
        """The number of tokens that can be computed."""
        return self.prompt_tokens + len(self.tokens)

    @property
    def decodes(self) -> bool:
        """Whether only the newest token remains to compute."""
        return self.computed >= self.prompt_tokens and self.computed == self.known - 1


@dataclass(frozen=True)
class Prepared:
    """A request from the plan that prepares it until its end."""

    submit: Submit
    chain: Chain
    reused: array[int]
    """The computed blocks that it reuses. Its first sequence gets them once it is admitted."""
    fragile: bool
    """Whether it cannot be computed again, so that it is never preempted."""


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
    """The blocks of the sequence's positions up to the segment's end."""


@dataclass(frozen=True)
class Step:
    """What every rank does for one plan: drop, copy blocks, compute the segments. Preparing may take longer."""

    number: int
    drop: tuple[SequenceId, ...]
    drop_requests: tuple[int, ...]
    prepare: tuple[Submit, ...]
    segments: tuple[Segment, ...]
    drawn: tuple[SequenceId, ...]
    """The sequences whose tokens the next plan carries, in this order."""
    reused_tokens: dict[int, int] = field(default_factory=dict)
    """For each request that is prepared: how many tokens of its prompt are already computed."""
    copies: tuple[tuple[int, int], ...] = ()
    """(source, target) blocks to copy before anything is computed, in order."""


@dataclass
class Counts:
    """Counts since the start."""

    computed_tokens: int = 0
    reused_tokens: int = 0
    preemptions: int = 0
