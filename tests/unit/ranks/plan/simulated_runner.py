"""A runner without a model: in place of tensors the list of what lies in each cache.

It believes nothing. Each step is held against what the plans so far demand, so a wrong step is noticed on the rank that
takes it, even when all ranks take the same wrong step. Features are held against the media that they were made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from simulated_ports import check, features_of

from mmplane.core.errors import Failure, internal
from mmplane.core.faults import InjectedFault
from mmplane.core.plan import Held, Plan, Submit
from mmplane.delivery.delivery import Features
from mmplane.delivery.faults import strike
from mmplane.ranks.plan.port import Turn
from mmplane.ranks.plan.schedule import Schedule, Segment, SequenceId, Step


def digest_of(rank: int, request_id: int) -> bytes:
    """What stands for the digest that a rank reports of a request's items."""
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


class SimulatedRunner:
    """Stands where `Runner` stands. `draw` makes the tokens of as many samples, on rank 0; `hashing` runs digests."""

    def __init__(
        self,
        rank: int,
        schedule: Schedule,
        draw: Callable[[int], tuple[int, ...]],
        hashing: Executor,
        *,
        writing: bool,
    ) -> None:
        self.hashing = hashing
        self.writing = writing
        self.rank = rank
        self.schedule = schedule
        self.draw = draw
        self.plan: Plan | None = None
        self.held: dict[int, Submit] = {}
        self.answered: dict[int, Failure | None] = {}
        """What this rank said of each request that it has answered for."""
        self.admitted: Counter[int] = Counter()
        self.growing: dict[SequenceId, Growing] = {}
        self.kept: dict[bytes, bytes] = {}
        """Embeddings by content key, which are the features themselves: a byte for each row."""
        self.keeping: dict[int, frozenset[bytes]] = {}
        """Keys that each request needs until it ends."""
        self.drawn: tuple[SequenceId, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.held or self.growing or self.schedule.prepared or self.schedule.sequences)

    def expect(self, plan: Plan) -> None:
        """The plan whose step comes next."""
        self.plan = plan
        for (request_id, sample), token in zip(self.drawn, plan.tokens, strict=True):
            self.growing[request_id, sample].next_token = token

    def forget(self, keys: Sequence[bytes]) -> None:
        assert self.plan is not None
        ended = {finish.request_id for finish in self.plan.finish}
        for key in keys:
            needed = [
                request_id for request_id, keys in self.keeping.items() if key in keys and request_id not in ended
            ]
            check(not needed, "embeddings are forgotten that requests need:", needed)
            self.kept.pop(key, None)

    @property
    def embedding_bytes(self) -> tuple[int, int]:
        return sum(map(len, self.kept.values())), 0

    def prepare(
        self, submit: Submit, features: Sequence[Features], *, keep: frozenset[int] = frozenset()
    ) -> Iterator[Turn]:
        """Digests beside the loop, then one item for each turn, as the real one."""
        failure: Failure | None = None
        hashed = self.hashing.submit(digest_of, self.rank, submit.request_id)
        yield hashed
        check(hashed.done(), "the loop did not wait for the digests of request", submit.request_id)
        check(len(features) == len(submit.items), "features for another number of items")
        self.keeping[submit.request_id] = frozenset(submit.items[index].content_key for index in keep)
        for index, (item, tensors) in enumerate(zip(submit.items, features, strict=True)):
            try:
                strike(submit.fault, "encode", self.rank)
            except InjectedFault:
                failure = internal("encode").failure()
                break
            found = bytes(tensors["x"].tolist())
            check(found == features_of(item.content_key), "features of another item came to request", submit.request_id)
            if index in keep:
                rows = self.kept.setdefault(item.content_key, found)
                check(rows == found, "embeddings of another item came to request", submit.request_id)
            if self.writing:
                tensors["x"].zero_()
            yield None
        digests = () if failure else (hashed.result(),)
        yield Held(submit.request_id, self.rank, digests, failure)

    def run(self, step: Step) -> tuple[int, ...]:
        assert self.plan is not None
        self._finish(self.plan, step)
        self._admit(self.plan)
        self._prepare(step)
        self._compute(step)
        self._fork(step)
        return self.draw(len(step.drawn)) if self.rank == 0 else ()

    def _finish(self, plan: Plan, step: Step) -> None:
        if not plan.finish:
            check(not (step.drop or step.drop_requests), "dropped, and nothing has ended:", step.drop)
            return
        whole = {finish.request_id for finish in plan.finish if finish.sample < 0}
        ended = {(finish.request_id, finish.sample) for finish in plan.finish if finish.sample >= 0}
        ended |= {sequence for sequence in self.growing if sequence[0] in whole}
        check(set(step.drop) == ended, "dropped, and to be dropped:", step.drop, ended)
        for sequence in step.drop:
            check(self.growing.pop(sequence, None), f"{sequence} was dropped and never ran")
        gone = {finish.request_id for finish in plan.finish} - {request_id for request_id, _ in self.growing}
        check(set(step.drop_requests) == gone, "requests dropped, and to be dropped:", step.drop_requests, gone)
        for request_id in step.drop_requests:
            check(request_id in self.answered, "a request was dropped before this rank had answered")
            check(self.held.pop(request_id, None), f"request {request_id} was dropped and never prepared")
            self.keeping.pop(request_id, None)

    def _admit(self, plan: Plan) -> None:
        for request_id in plan.admit:
            self.admitted[request_id] += 1
            check(self.admitted[request_id] == 1, f"request {request_id} was admitted twice")
            check(request_id in self.held, f"request {request_id} was admitted and not prepared")
            check(request_id in self.answered, "a request was admitted before this rank had answered")
            check(self.answered[request_id] is None, "a request that failed was admitted")
            self.growing[request_id, 0] = Growing(self.held[request_id])

    def _prepare(self, step: Step) -> None:
        for submit in step.prepare:
            check(submit.request_id not in self.held, "a request was prepared twice")
            self.held[submit.request_id] = submit

    def _compute(self, step: Step) -> None:
        if not (step.segments or self.growing):
            self.drawn = step.drawn
            check(not step.drawn, "a token is drawn of nothing")
            return
        waiting = {sequence: each.next_token for sequence, each in self.growing.items() if each.next_token is not None}
        decoding = {segment.sequence: segment.token for segment in step.segments if segment.token is not None}
        check(decoding == waiting, "decoded, and waiting for it:", decoding, waiting)
        prompts = [segment for segment in step.segments if segment.token is None]
        for segment in step.segments:
            check(segment.sequence in self.growing, "not of a running sequence:", segment)
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
        check(segment.start == len(growing.cache), "it does not begin where the last one ended:", segment)
        if segment.token is not None:
            check((segment.count, segment.draws) == (1, 1), "one token is decoded at a time:", segment)
            growing.cache.append(f"token {segment.token}")
            growing.next_token = None
            return
        check(0 < segment.count <= growing.prompt_left, "it reaches beyond its prompt:", segment)
        growing.cache += [f"prompt {segment.start + number}" for number in range(segment.count)]
        samples = 0 if growing.prompt_left else growing.submit.sampling.samples
        check(segment.draws == samples, "another number of samples should be drawn:", segment)

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
