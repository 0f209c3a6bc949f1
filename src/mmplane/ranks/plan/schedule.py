"""The schedule: which tokens each step computes and where, as a pure function of the plans so far.

Every rank runs this code on the same plans, so every rank enters the same collectives with the same shapes (invariant
3). Nothing here looks at a clock, a socket, memory or a tensor.

A step computes one token of every decoding sequence, and at most `prefill_tokens` of prompts, oldest first. If an
image's tokens attend to each other (`mmplane.ranks.plan.runs`), it computes one image more rather than a part of it.
The samples of one request (`n`) share the prompt: sample 0 computes it, and the others are forked from it when it is
complete.

Keys and values are in blocks (`mmplane.ranks.plan.blocks`). A request with the same beginning as an earlier one starts
after the blocks that the leader lets it reuse, and keeps them until it ends. If a sequence needs a block and all have
users, the youngest sequence is preempted: it gives back all its other blocks, and computes its tokens again when there
is room.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile

import msgspec
from blake3 import blake3

from mmplane.core.plan import MemoryReport, Plan, Submit
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.chain import Chain
from mmplane.ranks.plan.runs import before, image_runs, whole
from mmplane.ranks.plan.step import Counts, Prepared, Segment, Sequence, SequenceId, Step

LOOKED_MAX = 64
"""The chains of requests that the leader has looked up and that are not prepared yet."""

_encoder = msgspec.msgpack.Encoder()


class Schedule:
    """The state that plans build up. `prompt_of` returns the token ids of a request, int32 little endian."""

    number: int = 0
    """The number of the newest plan."""
    digest: bytes = b""
    """The digest of the admission log so far."""

    def __init__(
        self,
        prefill_tokens: int,
        blocks: Blocks,
        prompt_of: Callable[[Submit], bytes | memoryview] = lambda submit: submit.prompt,
        *,
        reuses: bool = True,
        whole_runs: bool = False,
    ) -> None:
        self.prefill_tokens = prefill_tokens
        self.blocks = blocks
        self._prompt_of = prompt_of
        self._reuses = reuses
        self._whole_runs = whole_runs
        self.prepared: dict[int, Prepared] = {}
        self.sequences: dict[SequenceId, Sequence] = {}
        self.counts = Counts()
        self._drawn: tuple[SequenceId, ...] = ()
        self._waiting: dict[int, Prepared] = {}
        """Requests that are prepared and not admitted."""
        self._looked: dict[int, Chain] = {}
        self._copies: list[tuple[int, int]] = []

    # The leader's questions before it decides.

    def look(self, submit: Submit) -> list[int]:
        """The computed blocks that this request could reuse. At least one token of its prompt remains to compute."""
        chain = self._looked.get(submit.request_id)
        if chain is None:
            if len(self._looked) == LOOKED_MAX:
                self._looked.clear()
            chain = self._looked[submit.request_id] = self._chain(submit)
        return self.blocks.find(chain.keys[: (submit.prompt_tokens - 1) // self.blocks.block_tokens])

    @property
    def promised(self) -> int:
        """The blocks that prepared requests will still take for their known tokens."""
        count_for = self.blocks.count_for
        return sum(count_for(each.submit.prompt_tokens) - len(each.reused) for each in self._waiting.values()) + sum(
            count_for(each.known) - len(each.blocks) for each in self.sequences.values()
        )

    def report(self) -> MemoryReport:
        """The blocks now, and what has happened since the start."""
        blocks, counts = self.blocks, self.counts
        return MemoryReport(
            blocks.total,
            blocks.used,
            blocks.idle,
            blocks.evicted,
            counts.preemptions,
            counts.reused_tokens,
            counts.computed_tokens,
        )

    # Plans.

    def apply(self, plan: Plan) -> Step:
        """Apply the next plan. Returns what to do. A plan out of order is our bug, not a user's."""
        assert plan.number == self.number + 1, f"plan {plan.number} after {self.number}"
        assert len(plan.tokens) == len(self._drawn), "a plan carries one token per sampling sequence"
        self.number = plan.number
        self._copies = []
        # First share what is reused, so that nothing that this plan ends can evict it.
        reused_tokens = self._prepare(plan)
        for sequence_id, token in zip(self._drawn, plan.tokens, strict=True):
            sequence = self.sequences[sequence_id]
            sequence.tokens.append(token)
            sequence.chain.push(token)
        drop, drop_requests = self._finish(plan)
        for request_id in plan.admit:
            self._admit(request_id)
        decoding = self._decoding()
        segments = (*decoding, *self._prefilling(decoding))
        self._drawn = self._draw(segments)
        self._publish(segments)
        copies = tuple(self._copies)
        self._note(plan, segments, copies)
        return Step(plan.number, drop, drop_requests, plan.prepare, segments, self._drawn, reused_tokens, copies)

    def _chain(self, submit: Submit) -> Chain:
        if not (self._reuses and submit.salt):
            return Chain(b"", self.blocks.block_tokens)
        return Chain.of(submit, self._prompt_of(submit), self.blocks.block_tokens)

    def _prepare(self, plan: Plan) -> dict[int, int]:
        """Use the blocks that the leader found for this plan's requests. Returns the tokens saved for each of them."""
        reuse = dict(plan.reuse)
        spared = {}
        for submit in plan.prepare:
            chain = self._looked.pop(submit.request_id, None) or self._chain(submit)
            count = reuse.get(submit.request_id, 0)
            reused = array("q", self.blocks.find(chain.keys[:count]))
            assert len(reused) == count, "the leader reuses blocks that are not here"
            self.blocks.share(reused)
            self.blocks.pin(reused)
            prepared = Prepared(submit, chain, reused, submit.request_id in plan.fragile)
            self.prepared[submit.request_id] = self._waiting[submit.request_id] = prepared
            spared[submit.request_id] = count * self.blocks.block_tokens
        self.counts.reused_tokens += sum(spared.values())
        return spared

    def _admit(self, request_id: int) -> None:
        prepared = self._waiting.pop(request_id)
        submit, kept = prepared.submit, len(prepared.reused)
        computed = kept * self.blocks.block_tokens
        first = (request_id, 0)
        self.sequences[first] = Sequence(
            first, submit.prompt_tokens, submit.sampling.samples, prepared.chain, prepared.reused, kept, computed, kept
        )

    def _finish(self, plan: Plan) -> tuple[tuple[SequenceId, ...], tuple[int, ...]]:
        drop: dict[SequenceId, None] = {}
        for finish in plan.finish:
            if finish.sample >= 0:
                drop[finish.request_id, finish.sample] = None
            else:
                drop |= dict.fromkeys(known for known in self.sequences if known[0] == finish.request_id)
        for sequence_id in drop:
            sequence = self.sequences.pop(sequence_id)
            self._give_back(sequence.blocks, sequence.kept)
        # A request ends when it failed before it was admitted, or with its last sample.
        ended = [
            request_id
            for request_id in dict.fromkeys(finish.request_id for finish in plan.finish)
            if not any(known[0] == request_id for known in self.sequences)
        ]
        for request_id in ended:
            del self.prepared[request_id]
            if (failed := self._waiting.pop(request_id, None)) is not None:
                self._give_back(failed.reused, len(failed.reused))
        return tuple(drop), tuple(ended)

    def _give_back(self, blocks: array[int], kept: int) -> None:
        self.blocks.unpin(blocks[:kept])
        self.blocks.drop(blocks)

    def _decoding(self) -> list[Segment]:
        segments: list[Segment] = []
        for sequence in self.sequences.values():
            if sequence.decodes and self._extend(sequence, 1, segments):
                segments.append(self._segment(sequence, 1))
        return segments

    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        """Segments of prompts and of preempted sequences. None begins before an older one that waits for memory."""
        segments = list(decoding)
        room = self.prefill_tokens
        for sequence in self.sequences.values():
            if sequence.computed == sequence.known or sequence.decodes:
                continue
            if room <= 0 or not self._begin(sequence):
                break
            part = sequence.prompt_tokens if sequence.computed < sequence.prompt_tokens else sequence.known
            runs = image_runs(self.prepared[sequence.id[0]].submit) if self._whole_runs else ()
            wanted = whole(runs, sequence.computed + min(part - sequence.computed, room)) - sequence.computed
            found = self._extend(sequence, wanted, segments)
            count = before(runs, sequence.computed + found) - sequence.computed
            if count <= 0:
                break
            segments.append(self._segment(sequence, count))
            room -= count
        return segments[len(decoding) :]

    def _begin(self, sequence: Sequence) -> bool:
        """Whether it may continue. One that has computed nothing yet looks for more blocks to reuse, and for room."""
        blocks, tokens = self.blocks, self.blocks.block_tokens
        if sequence.computed > sequence.kept * tokens:
            return True
        found = blocks.find(sequence.chain.keys[sequence.kept : (sequence.known - 1) // tokens])
        wanted = blocks.count_for(sequence.known) - sequence.kept - len(found) + blocks.newly_used(found)
        oldest = next(iter(self.sequences.values()))
        if wanted > blocks.available and sequence is not oldest:
            return False
        blocks.share(found)
        sequence.blocks.extend(found)
        sequence.published = len(sequence.blocks)
        sequence.computed = sequence.published * tokens
        self.counts.reused_tokens += len(found) * tokens
        return True

    def _extend(self, sequence: Sequence, count: int, segments: list[Segment]) -> int:
        """Get blocks for the next `count` tokens. Returns for how many of them there is room."""
        tokens = self.blocks.block_tokens
        if sequence.computed % tokens and self.blocks.is_shared(sequence.blocks[-1]):
            block = self._take(sequence, segments)
            if block is None:
                return 0
            self._copies.append((sequence.blocks[-1], block))
            self.blocks.drop(sequence.blocks[-1:])
            sequence.blocks[-1] = block
        while len(sequence.blocks) * tokens < sequence.computed + count:
            block = self._take(sequence, segments)
            if block is None:
                break
            sequence.blocks.append(block)
        return min(count, len(sequence.blocks) * tokens - sequence.computed)

    def _take(self, sequence: Sequence, segments: list[Segment]) -> int | None:
        """A block, if necessary from the youngest sequence that is younger and does nothing in this step."""
        while (block := self.blocks.take()) is None:
            younger = takewhile(lambda other: other is not sequence, reversed(self.sequences.values()))
            busy = {segment.sequence for segment in segments}
            victims = (each for each in younger if self._gives_back(each) and each.id not in busy)
            victim = next(victims, None)
            if victim is None:
                return None
            self._preempt(victim)
        return block

    def _gives_back(self, sequence: Sequence) -> bool:
        return len(sequence.blocks) > sequence.kept and not self.prepared[sequence.id[0]].fragile

    def _preempt(self, sequence: Sequence) -> None:
        self.blocks.drop(sequence.blocks[sequence.kept :])
        del sequence.blocks[sequence.kept :]
        sequence.computed = sequence.kept * self.blocks.block_tokens
        sequence.published = sequence.kept
        self.counts.preemptions += 1

    def _segment(self, sequence: Sequence, count: int) -> Segment:
        """The next `count` tokens, which count as computed from now on."""
        start = sequence.computed
        sequence.computed += count
        self.counts.computed_tokens += count
        first = start - sequence.prompt_tokens
        tokens = tuple(sequence.tokens[first : first + count]) if first >= 0 else ()
        draws = 0
        if sequence.computed == sequence.known:
            draws = 1 if sequence.tokens else sequence.samples
        return Segment(sequence.id, start, count, tokens, draws, sequence.blocks[:])

    def _draw(self, segments: tuple[Segment, ...]) -> tuple[SequenceId, ...]:
        """The sequences whose tokens this step samples. The samples of a request fork at its first token."""
        drawn: list[SequenceId] = []
        for segment in segments:
            request_id, first = segment.sequence
            for sample in range(first, first + segment.draws):
                drawn.append((request_id, sample))
                if sample != first:
                    self._fork(self.sequences[segment.sequence], (request_id, sample))
        return tuple(drawn)

    def _fork(self, prompt: Sequence, sequence_id: SequenceId) -> None:
        """Create a sample that shares the blocks of the prompt until it writes into one."""
        self.blocks.share(prompt.blocks)
        self.blocks.pin(prompt.blocks[: prompt.kept])
        self.sequences[sequence_id] = replace(
            prompt, id=sequence_id, samples=1, chain=prompt.chain.fork(), blocks=prompt.blocks[:], tokens=[]
        )

    def _publish(self, segments: tuple[Segment, ...]) -> None:
        """Requests of later plans may find the blocks that this step completes."""
        for segment in segments:
            sequence = self.sequences[segment.sequence]
            full = min(sequence.computed // self.blocks.block_tokens, len(sequence.chain.keys))
            for number in range(sequence.published, full):
                self.blocks.publish(sequence.blocks[number], sequence.chain.keys[number])
            sequence.published = max(full, sequence.published)

    def _note(self, plan: Plan, segments: tuple[Segment, ...], copies: tuple[tuple[int, int], ...]) -> None:
        """Add an entry to the admission log. Ranks compare the log's rolling digest."""
        tokens = self.blocks.block_tokens
        entry = _encoder.encode(
            (
                plan.number,
                plan.admit,
                [(finish.request_id, finish.sample, finish.reason) for finish in plan.finish],
                [submit.request_id for submit in plan.prepare],
                [
                    (each.sequence, each.start, each.count, list(each.blocks[each.start // tokens :]))
                    for each in segments
                ],
                [cancel.request_id for cancel in plan.cancel],
                plan.cache,
                plan.reuse,
                plan.fragile,
                copies,
            )
        )
        self.digest = blake3(self.digest + entry).digest(16)
