"""A runner without a model: in place of keys and values, what each position of a block stands for.

A position stands for all that its keys and values depend on: the tenant, every token up to it, and the items among
them. Whatever a step reads is held against what the request itself says, so blocks of another prefix are noticed.

It believes nothing. Each step is held against what the plans so far demand, so a wrong step is noticed on the rank that
takes it, even when all ranks take the same wrong step. Features are held against the media that they were made of.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import accumulate

from simulated_ports import check, features_of

from mmplane.core.errors import Failure, internal
from mmplane.core.faults import InjectedFault
from mmplane.core.keys import digest_parts
from mmplane.core.plan import Held, Plan, Submit
from mmplane.delivery.delivery import Features
from mmplane.delivery.faults import strike
from mmplane.ranks.plan.port import Turn
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Segment, SequenceId, Step


def digest_of(rank: int, request_id: int) -> bytes:
    """What stands for the digest that a rank reports of a request's items."""
    return f"{rank}/{request_id}".encode()


@dataclass
class Growing:
    """One admitted sequence: what its positions must stand for, and how many were computed."""

    submit: Submit
    stands_for: list[bytes]
    computed: int = 0
    tokens: list[int] = field(default_factory=list)
    preemptions: int = 0
    """Of the group, when this one was last computed."""

    def push(self, token: int) -> None:
        self.tokens.append(token)
        self.stands_for.append(stands_for(self.stands_for[-1], token, b""))

    @property
    def waits(self) -> bool:
        """Whether its newest token is all that is left to compute."""
        return bool(self.tokens) and self.computed == len(self.stands_for) - 1

    @property
    def left(self) -> int:
        return 0 if self.waits else len(self.stands_for) - self.computed


def stands_for(before: bytes, token: int, item: bytes) -> bytes:
    return digest_parts([before, str(token).encode(), item])


def prompt_of(submit: Submit) -> list[bytes]:
    """What each position of a prompt stands for."""
    items = {
        start + offset: item.content_key + b"%d" % (row + offset)
        for item, runs in zip(submit.items, submit.placeholders, strict=True)
        for (start, length), row in zip(runs, accumulate((length for _, length in runs), initial=0), strict=False)
        for offset in range(length)
    }
    tokens = array("i", submit.prompt) if submit.salt else [0] * submit.prompt_tokens
    whole = [submit.salt or b"request %d" % submit.request_id]
    for at in range(submit.prompt_tokens):
        whole.append(stands_for(whole[-1], tokens[at], items.get(at, b"")))
    return whole[1:]


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
        self.memory: dict[int, bytes] = {}
        """What each slot stands for."""
        self.reused: dict[int, int] = {}
        """Tokens of each prepared prompt that need not be computed."""
        self.events: Counter[str] = Counter()

    @property
    def empty(self) -> bool:
        return not (
            self.held
            or self.growing
            or self.schedule.prepared
            or self.schedule.sequences
            or self.schedule.blocks.used
            or self.schedule.blocks.pinned
        )

    def expect(self, plan: Plan) -> None:
        """The plan whose step comes next."""
        self.plan = plan
        check(len(plan.tokens) == len(self.drawn), "a plan carries one token per sampling sequence")
        for (request_id, sample), token in zip(self.drawn, plan.tokens, strict=True):
            self.growing[request_id, sample].push(token)

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
        self,
        submit: Submit,
        features: Sequence[Features],
        *,
        keep: frozenset[int] = frozenset(),
        reused_tokens: int = 0,
    ) -> Iterator[Turn]:
        """Digests beside the loop, then one item for each turn, as the real one."""
        check(reused_tokens == self.reused[submit.request_id], "another number of tokens is reused than the plan says")
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
        self._prepare(self.plan, step)
        self._copy(step)
        self._compute(step)
        self._fork(step)
        self._check_blocks()
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
            self.growing[request_id, 0] = Growing(self.held[request_id], prompt_of(self.held[request_id]))

    def _prepare(self, plan: Plan, step: Step) -> None:
        counts = dict(plan.reuse)
        for submit in step.prepare:
            check(submit.request_id not in self.held, "a request was prepared twice")
            self.held[submit.request_id] = submit
            self.reused[submit.request_id] = counts[submit.request_id] * self.schedule.blocks.block_tokens
            check(self.reused[submit.request_id] < submit.prompt_tokens, "nothing is left to compute of a prompt")
            self.events["blocks reused"] += counts[submit.request_id]
            self.events["pictures reused"] += bool(counts[submit.request_id] and submit.items)

    def _copy(self, step: Step) -> None:
        tokens = self.schedule.blocks.block_tokens
        for source, target in step.copies:
            self.events["blocks copied"] += 1
            for offset in range(tokens):
                self.memory[target * tokens + offset] = self.memory.get(source * tokens + offset, b"")

    def _compute(self, step: Step) -> None:
        if not (step.segments or self.growing):
            self.drawn = step.drawn
            check(not step.drawn, "a token is drawn of nothing")
            return
        waiting = {sequence for sequence, each in self.growing.items() if each.waits}
        decoding = {segment.sequence for segment in step.segments if segment.sequence in waiting}
        check(decoding == waiting or self._short, "decoded, and waiting for it:", decoding, waiting)
        check(step.segments, "a step computes nothing although there are sequences")
        prompts = [segment for segment in step.segments if segment.sequence not in waiting]
        for segment in step.segments:
            check(segment.sequence in self.growing, "not of a running sequence:", segment)
            self._extend(self.growing[segment.sequence], segment)
        self._check_read(step)
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

    @property
    def _short(self) -> bool:
        """Whether memory was ever short, so that something may wait or be computed again."""
        blocks = self.schedule.blocks
        left = sum(blocks.count_for(len(each.stands_for)) for each in self.growing.values() if each.left)
        return bool(self.schedule.counts.preemptions) or blocks.available < left + len(self.growing)

    def _extend(self, growing: Growing, segment: Segment) -> None:
        self._check_begin(growing, segment)
        prompt_tokens = growing.submit.prompt_tokens
        end = segment.start + segment.count
        check(0 < segment.count <= len(growing.stands_for) - segment.start, "it reaches beyond what is known:", segment)
        first = segment.start - prompt_tokens
        tokens = tuple(growing.tokens[first : first + segment.count]) if first >= 0 else ()
        check(segment.tokens == tokens, "not the tokens that were drawn:", segment)
        check(first >= 0 or end <= prompt_tokens, "prompt and answer in one segment:", segment)
        draws = (1 if growing.tokens else growing.submit.sampling.samples) if end == len(growing.stands_for) else 0
        check(segment.draws == draws, "another number of samples should be drawn:", segment)
        tokens_each = self.schedule.blocks.block_tokens
        slots = [segment.blocks[at // tokens_each] * tokens_each + at % tokens_each for at in range(end)]
        check(len(set(slots)) == end, "two positions of a sequence lie in one slot:", segment)
        for at in range(segment.start, end):
            self.memory[slots[at]] = growing.stands_for[at]
        growing.computed = end
        growing.preemptions = self.schedule.counts.preemptions

    def _check_begin(self, growing: Growing, segment: Segment) -> None:
        """A segment begins where the last one ended, but behind what was reused, and again after a preemption."""
        if segment.start == growing.computed:
            return
        again = self.schedule.counts.preemptions > growing.preemptions
        reused = not growing.computed and bool(growing.submit.salt)
        check(again or reused, "it does not begin where the last one ended:", segment)
        check(segment.start % self.schedule.blocks.block_tokens == 0, "it begins within a block:", segment)
        self.events["computed again"] += again

    def _check_read(self, step: Step) -> None:
        """After all writes of the step: everything that it reads is what its own sequence demands."""
        tokens_each = self.schedule.blocks.block_tokens
        for segment in step.segments:
            growing = self.growing[segment.sequence]
            for at in range(segment.start + segment.count):
                slot = segment.blocks[at // tokens_each] * tokens_each + at % tokens_each
                check(self.memory.get(slot) == growing.stands_for[at], f"position {at} holds another prefix:", segment)

    def _check_blocks(self) -> None:
        """Every use of a block is somebody's, and every block is free, used or kept."""
        schedule, blocks = self.schedule, self.schedule.blocks
        users = Counter(block for each in schedule.sequences.values() for block in each.blocks)
        users.update(block for each in schedule._waiting.values() for block in each.reused)
        check(users == blocks._users, "blocks have other users than they count")
        fresh = blocks.total - blocks._fresh
        check(len(users) + len(blocks._free) + blocks.idle + fresh == blocks.total, "a block is lost or counted twice")
        check(not set(blocks._free) & set(blocks._users), "a block is free and used")
        check(blocks._idle.keys() <= blocks._keys.keys(), "a block is kept that nobody can find")

    def _check_prefill(self, counts: list[int]) -> None:
        room = self.schedule.prefill_tokens - sum(counts)
        check(room >= 0, "more of prompts was computed than a step may")
        left = [each for each in self.growing.values() if each.left]
        if self._short:
            return
        check(not left or room == 0, "a prompt waited although there was room")
        begun_late = [each for each in left[1:] if each.computed]
        check(not begun_late, "a younger prompt was begun before an older one was complete")

    def _fork(self, step: Step) -> None:
        for request_id, sample in step.drawn:
            if (request_id, sample) in self.growing:
                continue
            first = self.growing.get((request_id, 0))
            check(first is not None, f"{request_id, sample} is forked from a sequence that is not there")
            assert first is not None
            prompt_tokens = first.submit.prompt_tokens
            check(first.computed == prompt_tokens, "a fork happens when the prompt is complete")
            check(len(first.stands_for) == prompt_tokens, "and before anything else")
            forked = self.schedule.sequences[request_id, sample]
            check(forked.computed == prompt_tokens, "a fork begins behind the prompt")
            self.growing[request_id, sample] = replace(first, stands_for=list(first.stands_for), tokens=[])
            self.events["forks"] += 1
