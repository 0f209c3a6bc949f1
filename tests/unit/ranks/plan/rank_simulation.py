"""A deterministic simulation of a rank group: one seed is one run, and a failing seed is the whole bug report.

A real `Leader`, and for each rank a real `Member`, `Schedule` and every delivery, joined by links that delay messages
at will, each on its own: requests, parcels, plans, answers, the lane of every rank and its pool. A front end submits,
aborts (in any phase, one sample or all, twice, by numbers that nobody has), dies in the middle of a frame and comes
back; the group crashes and is replaced; faults strike at every point; answers end at random. After each message the
books are checked, and after each run that nothing is left.

    python tests/unit/ranks/plan/rank_simulation.py SEED [TP]      one run again, exactly
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Callable
from random import Random

from simulated_ports import Violation, check
from simulated_rank import Circumstances, Parts, SimulatedRank
from simulated_requests import Client, Shape, client, draw_client
from simulated_runner import digest_of

from mmplane.core.plan import Abort, Admitted, Failed, Held, Sampling, Submit, Tokens
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.embedding_table import EmbeddingTable
from mmplane.ranks.plan.leader import Leader
from mmplane.ranks.plan.port import Drawn
from mmplane.wire.link import encode

END_TOKENS = frozenset({0, 1})
TURNS_MAX = 5000
"""A run needs some hundreds; one that needs more stands still."""


class Simulation:
    """One run. Mutants replace the leader or a part of the ranks."""

    def __init__(
        self,
        seed: int,
        tp: int | None = None,
        *,
        leader: Callable[..., Leader] = Leader,
        parts: Parts | None = None,
        delivery: str | None = None,
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.shape = Shape.draw(self.random, tp or self.random.choice((1, 2, 4)))
        if delivery is not None:
            self.shape.names = (delivery,)
        self.new_leader = leader
        self.parts = parts or Parts()
        self.clients: dict[int, Client] = {}
        self.events: Counter[str] = Counter()
        """What happened, so that a suite can see that everything does."""
        self.to_leader: deque[Submit | Abort] = deque()
        """On the front end's link."""
        self.frames: deque[int] = deque()
        """On its stream: parcels, by request."""
        self.arrived: deque[tuple[int, bool]] = deque()
        """What the reader has told the leader's loop."""
        self.attached = True
        self._start()

    def _start(self) -> None:
        """A new group."""
        shape = self.shape
        around = Circumstances(
            shape.tp,
            shape.prefill_tokens,
            lambda: Blocks(shape.kv_blocks, shape.block_tokens),
            shape.running_max,
            shape.token_min,
            shape.cache_bytes,
            shape.embedding_bytes,
            self.random,
            shape.haste,
            shape.writing,
            self._slow,
        )
        self.around = around
        self.ranks = [SimulatedRank(rank, self.parts, around) for rank in range(shape.tp)]
        self.leader = self.new_leader(
            tp=shape.tp,
            schedule=self.ranks[0].schedule,
            running_max=shape.running_max,
            end_tokens=END_TOKENS,
            cache_bytes=shape.cache_bytes,
        )
        self.leader._embeddings = EmbeddingTable(shape.embedding_bytes, row_bytes=1)
        self.heard: set[int] = set()
        """Requests that the leader has been told of."""
        self.known: set[int] = set()
        """Those of them that were in no plan."""
        self.planned: set[int] = set()
        """Requests that were in a plan."""
        self.parcels_arrived: set[int] = set()

    def run(self) -> Simulation:
        """To the end. Raises Violation (or what the code under test raises), with the seed as a note."""
        try:
            self._live()
            self._drain()
            self._check_end()
            self._final_exam()
        except Exception as error:
            tp = self.shape.tp
            error.add_note(f"python tests/unit/ranks/plan/rank_simulation.py {self.seed} {tp}    {self.shape}")
            raise
        for rank in self.ranks:
            self._count(rank)
        return self

    def _count(self, rank: SimulatedRank) -> None:
        self.events += rank.events + rank.runner.events
        self.events["preempted"] += rank.schedule.counts.preemptions
        self.events["blocks evicted"] += rank.schedule.blocks.evicted

    def _slow(self) -> bool:
        slow = self.random.random() < self.shape.slow
        self.events["took too long"] += slow
        return slow

    # The world.

    def _live(self) -> None:
        to_submit = self.shape.requests
        for _ in range(TURNS_MAX):
            if not to_submit and self.random.random() > 0.95:
                return
            if to_submit and self.attached and self.random.random() < 0.4:
                self._submit(draw_client(self.random, self.shape, len(self.clients) + 1, list(self.clients.values())))
                to_submit -= 1
            if self.random.random() < self.shape.aborting:
                self._send_abort()
            if self.random.random() < self.shape.leaving:
                self._leave()
            if self.random.random() < self.shape.crashing:
                self._crash()
            self._turn()
        raise Violation("no front end is let in any more")

    def _drain(self) -> None:
        for _ in range(TURNS_MAX):
            if not self._turn() and not self._busy:
                return
        raise Violation("the group does not come to rest")

    @property
    def _busy(self) -> bool:
        return bool(self.to_leader or self.frames or self.arrived or any(rank.busy for rank in self.ranks))

    def _submit(self, new: Client) -> None:
        request_id = new.submit.request_id
        self.clients[request_id] = new
        self.to_leader.append(new.submit)
        if new.parcel:
            self.frames.append(request_id)

    def _send_abort(self) -> None:
        """Any request, or one that never was; all of it, or a sample that may not exist; perhaps twice."""
        alive = [request_id for request_id, each in self.clients.items() if not each.done]
        anything = range(len(self.clients) + 2)
        request_id = self.random.choice(alive if alive and self.random.random() < 0.8 else anything)
        sample = self.random.choice((-1, 0, 0, 1, 2, 7))
        if self.attached:
            self.to_leader += [Abort(request_id, sample)] * self.random.choice((1, 1, 2))

    def _note_abort(self, each: Client, sample: int) -> None:
        request_id = each.submit.request_id
        phase = "waiting" if request_id not in self.planned else "preparing"
        if phase == "waiting" and each.parcel and request_id not in self.parcels_arrived:
            phase = "before its parcel"
        if each.outcome is not None:
            phase = "done" if each.done else ("decoding" if each.tokens else "prompt")
        self.events[f"abort, {phase}"] += 1
        if sample < 0:
            each.aborted = True
        elif sample in each.tokens and sample in each.open:
            each.stopped.add(sample)
            self.events["abort of a sample"] += 1

    def _leave(self) -> None:
        """The front end dies: of what it had sent a part is read, on each of its links."""
        if not self.attached:
            return
        self.events["front end left"] += 1
        self.attached = False
        self._hear_frontend(self.random.randint(0, len(self.to_leader)))
        self.to_leader.clear()
        for _ in range(self.random.randint(0, len(self.frames))):
            self._read_frame()
        self.events["died in mid-frame"] += bool(self.frames)
        self.frames.clear()
        self._hear_arrivals()
        for each in self.clients.values():
            each.aborted = True
            each.lost |= each.submit.request_id not in self.heard
        self.leader.abort_all()
        self._hear_leader()
        self.known.clear()

    def _crash(self) -> None:
        """A rank dies, and so its group: what was in flight has failed, and a new group is attached to."""
        self.events["the group crashed"] += 1
        for each in self.clients.values():
            each.lost |= not each.done
        self.to_leader.clear()
        self.frames.clear()
        self.arrived.clear()
        self.attached = True
        for rank in self.ranks:
            self._count(rank)
        self._start()

    def _turn(self) -> bool:
        """One turn of the leader's loop, in the order of `LeaderLoop.run`, and some of each other thread's."""
        random = self.random
        while self.frames and random.random() < 0.4:
            self._read_frame()
        for rank in self.ranks[1:]:
            if rank.answers:
                self._hear_follower(rank)
        self._hear_arrivals()
        if self.to_leader:
            self._hear_frontend(random.randint(0, len(self.to_leader)))
        plan = self.leader.propose()
        if plan is not None:
            self.around.tables[plan.number] = frozenset(self.leader._cache._entries)
            self._hear_leader()
            self._lead(encode(plan))
        held = self.ranks[0].advance()
        if held is not None:
            self.leader.held(held)
        if not self.attached and self.leader.settled:
            check(all(rank.empty for rank in self.ranks), "a new front end was let in before the old one's was dropped")
            self.attached = True
        self.ranks[0].background()
        for rank in self.ranks[1:]:
            self._follow(rank)
        return plan is not None or held is not None

    def _follow(self, rank: SimulatedRank) -> None:
        random = self.random
        while rank.parcels.stream and random.random() < 0.5:
            rank.parcels.receive()
        while rank.plans and (len(rank.plans) > self.shape.lag_max or random.random() < 0.5):
            rank.take_next()
        if random.random() < 0.7 and (held := rank.advance()) is not None:
            rank.answers.append(held)
        rank.background()

    def _read_frame(self) -> None:
        """The reader's thread on the leader: on to the followers first, then here, then to the loop."""
        request_id = self.frames.popleft()
        each = self.clients[request_id]
        if each.submit.relayed:
            for rank in self.ranks[1:]:
                rank.parcels.stream.append((request_id, each.parcel))
        self.ranks[0].parcels.put(request_id, bytearray(each.parcel))
        self.arrived.append((request_id, each.submit.relayed))

    def _hear_arrivals(self) -> None:
        while self.arrived:
            request_id, relayed = self.arrived.popleft()
            self.parcels_arrived.add(request_id)
            self.events["a parcel came first"] += request_id not in self.heard
            self.leader.arrived(request_id, relayed=relayed)

    def _hear_frontend(self, count: int) -> None:
        for _ in range(count):
            record = self.to_leader.popleft()
            if isinstance(record, Submit):
                self.known.add(record.request_id)
                self.heard.add(record.request_id)
                self.leader.submit(record)
            else:
                if record.request_id in self.heard:
                    self._note_abort(self.clients[record.request_id], record.sample)
                self.leader.abort(record)
            self._hear_leader()

    def _hear_follower(self, rank: SimulatedRank) -> None:
        for _ in range(self.random.randint(0, len(rank.answers))):
            answer = rank.answers.popleft()
            self.leader.held(answer) if isinstance(answer, Held) else self.leader.position(answer)

    def _lead(self, message: bytes) -> None:
        check(len(message) <= MESSAGE_BYTES_MAX, f"a plan of {len(message)} bytes")
        for rank in self.ranks:
            rank.plans.append(message)
        leading = self.ranks[0]
        plan = leading.next_plan()
        for cancel in plan.cancel:
            self.events["cancel, prepared" if cancel.prepared else "cancel, not prepared"] += 1
        for submit in plan.prepare:
            self._check_turn(submit)
            reused = frozenset(index for request_id, index in plan.cache.reuse if request_id == submit.request_id)
            self.clients[submit.request_id].reused = reused
        step = leading.take_next()
        self.events["requests that share a plan"] += len(step.prepare) > 1
        self._check_memory()
        self.leader.position(leading.answers.popleft())  # type: ignore[arg-type]
        self.leader.sampled(step.drawn, tuple(map(Drawn, leading.tokens)))
        self._hear_leader()

    # The books.

    def _check_turn(self, submit: Submit) -> None:
        """First come, first served, of those whose parcels are here."""
        self.known.discard(submit.request_id)
        self.planned.add(submit.request_id)
        here = {
            request_id
            for request_id in self.known
            if self.clients[request_id].outcome is None
            and (not self.clients[request_id].parcel or request_id in self.parcels_arrived)
        }
        check(submit.request_id < min(here, default=submit.request_id + 1), "first come is not first served")
        check(not submit.parcel_bytes or submit.request_id in self.parcels_arrived, "named before its parcel came")

    def _check_memory(self) -> None:
        """What the ranks hold at this plan fits into what the operator gave."""
        submits = self.ranks[0].runner.held.values()
        samples = sum(submit.sampling.samples for submit in submits)
        check(samples <= self.shape.running_max, "more samples run than may")

    def _hear_leader(self) -> None:
        while self.leader.outbox:
            record = self.leader.outbox.popleft()
            check(len(encode(record)) <= MESSAGE_BYTES_MAX, "a record of the leader is too long")
            if isinstance(record, Admitted | Failed):
                self._conclude(record)
            elif isinstance(record, Tokens):
                for token in record.tokens:
                    self.clients[token.request_id].receive(token, END_TOKENS)

    def _conclude(self, record: Admitted | Failed) -> None:
        """From now on the request's slots may be somebody else's."""
        request_id = record.request_id
        each = self.clients[request_id]
        check(each.outcome is None, f"request {request_id} was concluded twice")
        each.outcome = record
        answers = [rank.runner.answered for rank in self.ranks]
        if request_id in self.planned:
            for rank, answered in enumerate(answers):
                check(request_id in answered, f"rank {rank} may still read slots that were released")
        if isinstance(record, Admitted):
            self.events[f"admitted, {each.submit.delivery}"] += bool(each.submit.items)
            self.events["embeddings found"] += len(record.embedded)
            check(not each.strikes(self.shape.tp), "a request was admitted that a fault had struck")
            check(record.reused == tuple(sorted(each.reused)), "what was reused is not what the plan says")
            digests = tuple((digest_of(rank, request_id),) for rank in range(self.shape.tp))
            check(record.digests == digests, "the digests are not those of the ranks, in order")
            return
        failures = [failure for answered in answers if (failure := answered.get(request_id))]
        if failures:
            self.events[f"failed, {each.submit.delivery}"] += each.strikes(self.shape.tp)
            check(record.failure == failures[0], "the first failing rank says why")
        each.check_failure(record.failure, self.shape)

    def _check_end(self) -> None:
        for each in self.clients.values():
            check(each.done, f"request {each.submit.request_id} never ended")
        first = self.ranks[0]
        for rank in self.ranks:
            rank.check_end()
            check(rank.steps == first.steps, f"rank {rank.rank} took other steps than the leader")
            check(rank.digests == first.digests, f"rank {rank.rank} has another admission log than the leader")
        progress = self.leader.progress()
        check((progress.running, progress.waiting, progress.kv_tokens) == (0, 0, 0), f"{progress} after the end")
        check(not self.leader._embeddings.pinned, "embeddings stay pinned")
        check(self.leader.settled, "nothing is left, and the leader does not know")
        check(not (self.leader._early or self.leader._unwanted), "the leader still thinks of parcels")

    def _final_exam(self) -> None:
        """Faults stop. A request that needs all seats and all memory is served, unless any of either has leaked."""
        shape = self.shape
        shape.aborting = shape.leaving = shape.crashing = shape.slow = 0.0
        samples = shape.running_max
        each = shape.kv_blocks // samples * shape.block_tokens
        sampling = Sampling(3, 1.0, 1.0, 0, samples)
        last = client(len(self.clients) + 1, b"", each - 3, sampling, [b"picture0"], self.random.choice(shape.names))
        self._submit(last)
        self._drain()
        check(isinstance(last.outcome, Admitted), "a leak: not all seats and memory came back")
        self._check_end()


if __name__ == "__main__":
    logging.getLogger("mmplane").setLevel(logging.CRITICAL)  # injected faults are logged with their stacks
    run = Simulation(int(sys.argv[1]), *map(int, sys.argv[2:3])).run()
    for name, count in sorted(run.events.items()):
        print(f"{count:6} {name}")
