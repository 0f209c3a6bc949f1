"""What rank 0 wants of each row of logits: what a request's sampling says, given what its answer has so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from mmplane.core.plan import Sampling, Submit
from mmplane.ranks.model.grammar import Grammar, Grammars
from mmplane.ranks.model.wanted import NO_TOKENS, Penalties, Wanted
from mmplane.ranks.plan.step import Segment, SequenceId


@dataclass
class Answer:
    """What must be remembered of one answer: its tokens, if they are penalised, and where its grammar stands."""

    tokens: list[int] = field(default_factory=list)
    grammar: Grammar | None = None

    def add(self, token: int) -> None:
        """Its next token."""
        self.tokens.append(token)
        if self.grammar is not None:
            self.grammar.advance(token)

    def fork(self) -> Answer:
        """Another answer that has come as far."""
        return Answer(list(self.tokens), self.grammar and self.grammar.fork())


class Drawing:
    """Keeps the answers that need more than their newest logits: those with penalties or a grammar."""

    def __init__(self, grammars: Grammars | None = None, end_tokens: frozenset[int] = frozenset()) -> None:
        self._grammars = grammars
        self._end_tokens = end_tokens
        self._answers: dict[SequenceId, Answer] = {}

    def prepare(self, submit: Submit) -> Iterator[Future[Any]]:
        """Make what the request's answers need, a turn for each wait. Raises RequestError."""
        grammar = None
        if submit.sampling.grammar:
            assert self._grammars is not None
            making = self._grammars.begin(submit.sampling.grammar)
            yield making
            grammar = making.result()
        if grammar is not None or submit.sampling.penalised:
            self._answers[submit.request_id, 0] = Answer(grammar=grammar)

    def wanted(self, submit: Submit, prompt: torch.Tensor, segment: Segment) -> Wanted:
        """How to draw from the logits after this segment. `prompt` is int64 [tokens]."""
        sampling = submit.sampling
        _, first = segment.sequence
        answer = self._answers.get(segment.sequence)
        drawn = segment.start + segment.count - submit.prompt_tokens
        penalties = None
        if answer is not None and sampling.penalised:
            penalties = Penalties(
                sampling.repetition_penalty,
                sampling.presence_penalty,
                sampling.frequency_penalty,
                prompt.cpu() if sampling.repetition_penalty != 1.0 else NO_TOKENS,
                torch.tensor(answer.tokens, dtype=torch.int64),
            )
        return Wanted(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            position=segment.start + segment.count,
            samples=range(first, first + segment.draws),
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            penalties=penalties,
            bias=dict(sampling.bias),
            allowed=answer.grammar.allowed() if answer is not None and answer.grammar is not None else None,
            banned=self._ends(sampling) if drawn < sampling.tokens_min else (),
            logprobs=sampling.logprobs,
        )

    def drew(self, sequences: Sequence[SequenceId], tokens: Sequence[int]) -> None:
        """What a step drew. The samples of a request begin with the same token's logits, so each starts as a copy."""
        for request_id, sample in sequences:
            first = self._answers.get((request_id, 0))
            if first is not None and (request_id, sample) not in self._answers:
                self._answers[request_id, sample] = first.fork()
        for sequence, token in zip(sequences, tokens, strict=True):
            if (answer := self._answers.get(sequence)) is not None:
                answer.add(token)

    def drop(self, sequence: SequenceId) -> None:
        """This answer has ended. Idempotent."""
        self._answers.pop(sequence, None)

    def statistics(self) -> dict[str, int]:
        """How much is remembered."""
        return {"answers": len(self._answers)}

    def _ends(self, sampling: Sampling) -> tuple[int, ...]:
        return (*sorted(self._end_tokens), *sampling.end_tokens)
