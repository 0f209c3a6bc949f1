"""A rank without a model: a real schedule, and in place of tensors the list of what lies in each cache.

It believes nothing. Each step that the schedule gives is held against what the plans so far demand, so a wrong step is
noticed on the rank that takes it, even when all ranks take the same wrong step.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from mmplane.core.errors import Failure
from mmplane.core.plan import Held, Plan, Position, Submit
from mmplane.ranks.schedule import Schedule, Segment, SequenceId, Step

Prepare = Callable[[int, Submit], Failure | None]
"""Whether a rank (first argument) fails at a request."""


class Violation(AssertionError):
    """A promise was broken."""


def check(promise: object, what: str) -> None:
    if not promise:
        raise Violation(what)


def digest_of(rank: int, request_id: int) -> bytes:
    """What stands for the digest that a rank reports of a request's only item."""
    return f"{rank}/{request_id}".encode()


@dataclass
class Growing:
    """One admitted sequence: what lies in its cache, and the token that comes next."""

    submit: Submit
    cache: list[str] = field(default_factory=list)
    next_token: int | None = None

    @property
    def prompt_left(self) -> int:
        return max(0, self.submit.prompt_tokens - len(self.cache))


class SimulatedRank:
    """Takes plans, answers with `Held` and `Position`."""

    def __init__(self, rank: int, schedule: Schedule, prepare: Prepare) -> None:
        self.rank = rank
        self.schedule = schedule
        self.prepare = prepare
        self.plans: deque[bytes] = deque()
        """On their way here."""
        self.answers: deque[Held | Position] = deque()
        """On their way to the leader."""
        self.held: dict[int, Submit] = {}
        self.answered: set[int] = set()
        self.admitted: Counter[int] = Counter()
        self.growing: dict[SequenceId, Growing] = {}
        self.steps: list[Step] = []
        self.digests: list[bytes] = []
        self.drawn: tuple[SequenceId, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing of any request is left, in the schedule or in the caches."""
        return not (self.held or self.growing or self.schedule.prepared or self.schedule.sequences)

    def take_next(self) -> Step:
        """Apply the oldest plan that is on its way."""
        plan = msgspec.msgpack.decode(self.plans.popleft(), type=Plan)
        for (request_id, sample), token in zip(self.drawn, plan.tokens, strict=True):
            self.growing[request_id, sample].next_token = token
        step = self.schedule.apply(plan)
        self._finish(plan, step)
        self._admit(plan)
        self._prepare(step)
        self._compute(step)
        self._fork(step)
        self.steps.append(step)
        self.digests.append(self.schedule.digest)
        self.answers.append(Position(self.rank, self.schedule.number, self.schedule.digest))
        return step

    def _finish(self, plan: Plan, step: Step) -> None:
        whole = {finish.request_id for finish in plan.finish if finish.sample < 0}
        ended = {(finish.request_id, finish.sample) for finish in plan.finish if finish.sample >= 0}
        ended |= {sequence for sequence in self.growing if sequence[0] in whole}
        check(set(step.drop) == ended, f"{step.drop} was dropped instead of {ended}")
        for sequence in step.drop:
            check(self.growing.pop(sequence, None), f"{sequence} was dropped and never ran")
        gone = {finish.request_id for finish in plan.finish} - {request_id for request_id, _ in self.growing}
        check(set(step.drop_requests) == gone, f"{step.drop_requests} were dropped instead of {gone}")
        for request_id in step.drop_requests:
            check(request_id in self.answered, "a request was dropped before this rank had answered")
            check(self.held.pop(request_id, None), f"request {request_id} was dropped and never prepared")

    def _admit(self, plan: Plan) -> None:
        for request_id in plan.admit:
            self.admitted[request_id] += 1
            check(self.admitted[request_id] == 1, f"request {request_id} was admitted twice")
            check(request_id in self.held, f"request {request_id} was admitted and not prepared")
            check(self.prepare(self.rank, self.held[request_id]) is None, "a request that failed was admitted")
            self.growing[request_id, 0] = Growing(self.held[request_id])

    def _prepare(self, step: Step) -> None:
        for submit in step.prepare:
            check(submit.request_id not in self.held, "a request was prepared twice")
            self.held[submit.request_id] = submit
            self.answered.add(submit.request_id)
            failure = self.prepare(self.rank, submit)
            digests = () if failure else (digest_of(self.rank, submit.request_id),)
            self.answers.append(Held(submit.request_id, self.rank, digests, failure))

    def _compute(self, step: Step) -> None:
        waiting = {sequence: each.next_token for sequence, each in self.growing.items() if each.next_token is not None}
        decoding = {segment.sequence: segment.token for segment in step.segments if segment.token is not None}
        check(decoding == waiting, f"{decoding} was decoded and {waiting} waited for it")
        prompts = [segment for segment in step.segments if segment.token is None]
        for segment in step.segments:
            check(segment.sequence in self.growing, f"{segment} is not of a running sequence")
            self._extend(self.growing[segment.sequence], segment)
        self._check_prefill([segment.count for segment in prompts])
        drawing = [segment for segment in step.segments if segment.draws]
        drawn = [
            (segment.sequence[0], segment.sequence[1] + number)
            for segment in drawing
            for number in range(segment.draws)
        ]
        check(list(step.drawn) == drawn, "the tokens drawn are not those of the segments that draw")
        check(len(drawn) == len(set(drawn)), "a sequence draws twice in a step")
        self.drawn = step.drawn

    def _extend(self, growing: Growing, segment: Segment) -> None:
        check(segment.start == len(growing.cache), f"{segment} does not begin where the last one ended")
        if segment.token is not None:
            check((segment.count, segment.draws) == (1, 1), f"{segment} decodes one token")
            growing.cache.append(f"token {segment.token}")
            growing.next_token = None
            return
        check(0 < segment.count <= growing.prompt_left, f"{segment} reaches beyond its prompt")
        growing.cache += [f"prompt {segment.start + number}" for number in range(segment.count)]
        samples = 0 if growing.prompt_left else growing.submit.sampling.samples
        check(segment.draws == samples, f"{segment} should draw {samples} samples")

    def _check_prefill(self, counts: list[int]) -> None:
        room = self.schedule.prefill_tokens - sum(counts)
        check(room >= 0, "more of prompts was computed than a step may")
        left = [each for each in self.growing.values() if each.prompt_left]
        check(not left or room == 0, "a prompt waited although there was room")
        begun_late = [each for each in left[1:] if each.cache]
        check(not begun_late, "a younger prompt was begun before an older one was complete")

    def _fork(self, step: Step) -> None:
        for request_id, sample in step.forks:
            first = self.growing.get((request_id, 0))
            check(first is not None, f"{request_id, sample} is forked from a sequence that is not there")
            assert first is not None
            whole = [f"prompt {at}" for at in range(first.submit.prompt_tokens)]
            check(first.cache == whole, "a fork happens when the prompt is complete, and before anything else")
            forked = self.schedule.sequences[request_id, sample]
            check(forked.computed == len(whole), "a fork begins behind the prompt")
            check((request_id, sample) not in self.growing, "a sample is forked once")
            self.growing[request_id, sample] = Growing(first.submit, list(whole))
