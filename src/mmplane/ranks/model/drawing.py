"""The sampling parameters of each row of logits on rank 0: the request's own, given its answer so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmplane.core.errors import Failure
from mmplane.core.plan import Sampling, Submit
from mmplane.ranks.model.grammar import Grammar, Grammars
from mmplane.ranks.model.seen import Seen
from mmplane.ranks.model.wanted import Penalties, Wanted
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.step import Segment, SequenceId


@dataclass
class Answer:
    """The state of one answer: its tokens, if they are penalised, and its position in its grammar."""

    seen: Seen | None = None
    grammar: Grammar | None = None

    @property
    def failure(self) -> Failure | None:
        """Why the answer cannot continue."""
        return self.grammar.failure if self.grammar is not None else None

    def add(self, token: int) -> None:
        """Add its next token."""
        if self.seen is not None:
            self.seen.add(token)
        if self.grammar is not None:
            self.grammar.advance(token)

    def fork(self) -> Answer:
        """A copy for another answer with the same beginning."""
        return Answer(self.seen and self.seen.fork(), self.grammar and self.grammar.fork())


NOTHING = Answer()


class Drawing:
    """Keeps the answers that need more than their newest logits: those with penalties or a grammar."""

    def __init__(self, grammars: Grammars | None = None, end_tokens: frozenset[int] = frozenset()) -> None:
        self._grammars = grammars
        self._end_tokens = end_tokens
        self._answers: dict[SequenceId, Answer] = {}

    def prepare(self, submit: Submit, prompt: torch.Tensor) -> Iterator[Future[Any]]:
        """Make what the request's answers need, with one turn for each wait. `prompt` is int64 [tokens].

        Raises RequestError.
        """
        sampling, answer = submit.sampling, Answer()
        if sampling.grammar:
            assert self._grammars is not None
            making = self._grammars.begin(sampling.grammar)
            yield making
            answer.grammar = making.result()
        if sampling.penalised:
            answer.seen = Seen(prompt if sampling.repetition_penalty != 1.0 else None)
        if answer != NOTHING:
            self._answers[submit.request_id, 0] = answer

    def wanted(self, submit: Submit, segment: Segment) -> Wanted:
        """How to sample from the logits after this segment. If an answer cannot continue, any token may be sampled."""
        sampling = submit.sampling
        _, first = segment.sequence
        answer = self._answers.get(segment.sequence, NOTHING)
        drawn = segment.start + segment.count - submit.prompt_tokens
        return Wanted(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            position=segment.start + segment.count,
            samples=range(first, first + segment.draws),
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            penalties=_penalties(sampling, answer.seen),
            bias=dict(sampling.bias),
            allowed=answer.grammar.allowed() if answer.grammar is not None else None,
            banned=self._ends(sampling) if drawn < sampling.tokens_min else (),
            logprobs=sampling.logprobs,
        )

    def drew(self, sequences: Sequence[SequenceId], drawn: Sequence[Drawn]) -> tuple[Drawn, ...]:
        """Note the tokens of a step. Returns them with the failure of each answer that cannot continue.

        All samples of a request use the same first logits, so each starts as a copy.
        """
        for request_id, sample in sequences:
            first = self._answers.get((request_id, 0))
            if first is not None and (request_id, sample) not in self._answers:
                self._answers[request_id, sample] = first.fork()
        told = []
        for sequence, each in zip(sequences, drawn, strict=True):
            answer = self._answers.get(sequence, NOTHING)
            if (failure := answer.failure) is None:
                answer.add(each.token)
            told.append(each if failure is None else replace(each, failure=failure))
        return tuple(told)

    def drop(self, sequence: SequenceId) -> None:
        """Forget this answer, which has ended. Idempotent."""
        self._answers.pop(sequence, None)

    def statistics(self) -> dict[str, int]:
        """How much is remembered."""
        return {"answers": len(self._answers)}

    def _ends(self, sampling: Sampling) -> tuple[int, ...]:
        return (*sorted(self._end_tokens), *sampling.end_tokens)


def _penalties(sampling: Sampling, seen: Seen | None) -> Penalties | None:
    if seen is None:
        return None
    penalties = sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty
    return Penalties(*penalties, seen.tokens, seen.counts)
