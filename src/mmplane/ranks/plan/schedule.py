"""The schedule: which tokens each step computes, as a pure function of the plans so far.

Every rank runs this code on the same plans, so every rank enters the same collectives with the same shapes
(invariant 3). Nothing here looks at a clock, a socket, memory or a tensor.

A step computes one token of every decoding sequence, and at most `prefill_tokens` of prompts, oldest first. The samples
of one request (`n`) share the prompt: sample 0 computes it, the others are forked from it when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from mmplane.core.plan import Plan, Submit

SequenceId = tuple[int, int]
"""(request id, sample)."""

_encoder = msgspec.msgpack.Encoder()


@dataclass
class Sequence:
    """One sample of one request. `computed` counts the tokens whose keys and values lie in the cache."""

    id: SequenceId
    prompt_tokens: int
    samples: int
    computed: int = 0
    next_token: int | None = None


@dataclass(frozen=True)
class Segment:
    """`count` tokens of one sequence from position `start`. `token` is the input when decoding, else None (prompt)."""

    sequence: SequenceId
    start: int
    count: int
    token: int | None
    draws: int
    """How many samples are drawn from the logits after the segment's last token: 0 in the middle of a prompt."""


@dataclass(frozen=True)
class Step:
    """What every rank does for one plan: drop, compute the segments, fork. What it prepares may take longer."""

    number: int
    drop: tuple[SequenceId, ...]
    drop_requests: tuple[int, ...]
    prepare: tuple[Submit, ...]
    segments: tuple[Segment, ...]
    forks: tuple[SequenceId, ...]
    drawn: tuple[SequenceId, ...]
    """Whose tokens the next plan carries, in its order."""


@dataclass
class Schedule:
    """The state that the plans build up."""

    prefill_tokens: int
    number: int = 0
    digest: bytes = b""
    prepared: dict[int, Submit] = field(default_factory=dict)
    sequences: dict[SequenceId, Sequence] = field(default_factory=dict)
    _drawn: tuple[SequenceId, ...] = ()

    def apply(self, plan: Plan) -> Step:
        """Take the next plan and say what to do. A plan out of order is a bug of ours, not of a user."""
        assert plan.number == self.number + 1, f"plan {plan.number} after {self.number}"
        assert len(plan.tokens) == len(self._drawn), "a plan carries one token per sampling sequence"
        self.number = plan.number
        for sequence_id, token in zip(self._drawn, plan.tokens, strict=True):
            self.sequences[sequence_id].next_token = token
        drop, drop_requests = self._finish(plan)
        for request_id in plan.admit:
            submit = self.prepared[request_id]
            first = Sequence((request_id, 0), submit.prompt_tokens, submit.sampling.samples)
            self.sequences[first.id] = first
        for submit in plan.prepare:
            self.prepared[submit.request_id] = submit
        segments = (*self._decoding(), *self._prefilling())
        forks, drawn = self._draw(segments)
        self._drawn = drawn
        self._note(plan, segments)
        return Step(plan.number, drop, drop_requests, plan.prepare, segments, forks, drawn)

    def _finish(self, plan: Plan) -> tuple[tuple[SequenceId, ...], tuple[int, ...]]:
        drop: dict[SequenceId, None] = {}
        for finish in plan.finish:
            if finish.sample >= 0:
                drop[finish.request_id, finish.sample] = None
            else:
                drop |= dict.fromkeys(known for known in self.sequences if known[0] == finish.request_id)
        for sequence_id in drop:
            del self.sequences[sequence_id]
        # A request goes when it failed before it was admitted, or with the last of its samples.
        ended = [
            request_id
            for request_id in dict.fromkeys(finish.request_id for finish in plan.finish)
            if not any(known[0] == request_id for known in self.sequences)
        ]
        for request_id in ended:
            del self.prepared[request_id]
        return tuple(drop), tuple(ended)

    def _decoding(self) -> list[Segment]:
        segments = []
        for sequence in self.sequences.values():
            if sequence.next_token is not None:
                segments.append(Segment(sequence.id, sequence.computed, 1, sequence.next_token, 1))
                sequence.computed += 1
                sequence.next_token = None
        return segments

    def _prefilling(self) -> list[Segment]:
        segments = []
        room = self.prefill_tokens
        for sequence in self.sequences.values():
            left = sequence.prompt_tokens - sequence.computed
            if left <= 0 or room == 0:
                continue
            count = min(left, room)
            draws = sequence.samples if count == left else 0
            segments.append(Segment(sequence.id, sequence.computed, count, None, draws))
            sequence.computed += count
            room -= count
        return segments

    def _draw(self, segments: tuple[Segment, ...]) -> tuple[tuple[SequenceId, ...], tuple[SequenceId, ...]]:
        forks: list[SequenceId] = []
        drawn: list[SequenceId] = []
        for segment in segments:
            request_id, first = segment.sequence
            for sample in range(first, first + segment.draws):
                drawn.append((request_id, sample))
                if sample != first:
                    forks.append((request_id, sample))
                    prompt = self.sequences[segment.sequence]
                    self.sequences[request_id, sample] = Sequence(
                        (request_id, sample), prompt.prompt_tokens, 1, prompt.computed
                    )
        return tuple(forks), tuple(drawn)

    def _note(self, plan: Plan, segments: tuple[Segment, ...]) -> None:
        """The admission log is the sequence of these entries; its rolling digest is what ranks compare."""
        entry = _encoder.encode(
            (
                plan.number,
                plan.admit,
                [(finish.request_id, finish.sample, finish.reason) for finish in plan.finish],
                [submit.request_id for submit in plan.prepare],
                [(segment.sequence, segment.start, segment.count) for segment in segments],
                [cancel.request_id for cancel in plan.cancel],
                plan.cache,
            )
        )
        self.digest = blake3(self.digest + entry).digest(16)
