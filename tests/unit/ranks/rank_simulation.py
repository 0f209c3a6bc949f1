"""A deterministic simulation of a rank group: one seed is one run, and a failing seed is the whole bug report.

A real `Leader` and a real `Schedule` for each rank, joined by links that delay messages at will. A front end submits,
aborts (in any phase, one sample or all, twice, by numbers that nobody has), goes away and comes back; ranks fail at
requests; answers end at random. After each message the books are checked, and after each run that nothing is left.

    Simulation(seed).run()      MMPLANE_SEED=4711 pytest tests/unit/ranks/test_simulation.py
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from simulated_rank import SimulatedRank, Violation, check, digest_of

from mmplane.core.errors import Failure, internal, unsupported
from mmplane.core.plan import Abort, Admitted, Failed, Held, Sampling, Submit, Token, Tokens
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.ranks.leader import Leader
from mmplane.ranks.schedule import Schedule
from mmplane.wire.link import encode

END_TOKENS = frozenset({0, 1})
TURNS_MAX = 5000
"""A run needs some hundreds; one that needs more stands still."""

FAILURES = (internal("out of memory").failure(), unsupported("not this one").failure())


@dataclass
class Shape:
    """How large a group is, and how unlucky."""

    tp: int
    running_max: int
    kv_tokens_max: int
    prefill_tokens: int
    requests: int
    lag_max: int
    """Plans that a follower may be behind."""
    failing: float
    aborting: float
    leaving: float

    @classmethod
    def draw(cls, random: Random, tp: int) -> Shape:
        running_max = random.randint(1, 5)
        return cls(
            tp=tp,
            running_max=running_max,
            kv_tokens_max=running_max * random.randint(8, 40),
            prefill_tokens=random.choice((1, 3, 8, 100)),
            requests=random.randint(1, 12),
            lag_max=random.choice((0, 0, 1, 6)),
            failing=random.choice((0.0, 0.0, 0.1, 0.3)),
            aborting=random.choice((0.0, 0.05, 0.2)),
            leaving=random.choice((0.0, 0.0, 0.03)),
        )


@dataclass
class Client:
    """One request as the front end knows it."""

    submit: Submit
    failures: dict[int, Failure]
    """By rank that will fail at it."""
    outcome: Admitted | Failed | None = None
    aborted: bool = False
    stopped: set[int] = field(default_factory=set)
    tokens: dict[int, list[Token]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether nobody waits for anything of it."""
        if self.outcome is None:
            return False
        return self.aborted or isinstance(self.outcome, Failed) or not self.open

    @property
    def open(self) -> set[int]:
        """Samples that should still produce tokens."""
        ended = {sample for sample, tokens in self.tokens.items() if tokens[-1].reason}
        return set(range(self.submit.sampling.samples)) - ended - self.stopped


class Simulation:
    """One run. Mutants replace the leader or a rank's schedule."""

    def __init__(
        self,
        seed: int,
        tp: int | None = None,
        *,
        leader: Callable[..., Leader] = Leader,
        schedule: Callable[[int, int], Schedule] = lambda _rank, prefill_tokens: Schedule(prefill_tokens),
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.shape = Shape.draw(self.random, tp or self.random.choice((1, 2, 4)))
        self.leader = leader(
            tp=self.shape.tp,
            kv_tokens_max=self.shape.kv_tokens_max,
            running_max=self.shape.running_max,
            end_tokens=END_TOKENS,
        )
        self.ranks = [
            SimulatedRank(rank, schedule(rank, self.shape.prefill_tokens), self.fails) for rank in range(self.shape.tp)
        ]
        self.clients: dict[int, Client] = {}
        self.attached = True
        self.planned: set[int] = set()
        """Requests that were in a plan."""
        self.events: Counter[str] = Counter()
        """What happened, so that a suite can see that everything does."""

    def run(self) -> Simulation:
        """To the end. Raises Violation (or what the code under test raises), with the seed as a note."""
        try:
            self._live()
            self._drain()
            self._check_end()
            self._final_exam()
        except Exception as error:
            error.add_note(f"Simulation(seed={self.seed}, tp={self.shape.tp}): {self.shape}")
            raise
        return self

    def fails(self, rank: int, submit: Submit) -> Failure | None:
        return self.clients[submit.request_id].failures.get(rank)

    # The world.

    def _live(self) -> None:
        to_submit = self.shape.requests
        while to_submit or self.random.random() < 0.95:
            if to_submit and self.attached and self.random.random() < 0.4:
                self._submit(self._draw_submit())
                to_submit -= 1
            if self.random.random() < self.shape.aborting:
                self._abort()
            if self.random.random() < self.shape.leaving:
                self._leave()
            self._turn()

    def _drain(self) -> None:
        for _ in range(TURNS_MAX):
            if not self._turn() and not any(rank.plans or rank.answers for rank in self.ranks):
                return
        raise Violation("the group does not come to rest")

    def _draw_submit(self) -> Submit:
        random = self.random
        samples = random.choice((1, 1, 2, 2, 3, self.shape.running_max + 1))
        prompt_tokens = random.randint(1, 12)
        tokens_max = random.choice((1, 2, 6, 20, self.shape.kv_tokens_max))
        # Some records are so long that few of them fit into one plan.
        prompt = bytes(random.choice((4, 4, 4, 30_000)))
        sampling = Sampling(tokens_max, 1.0, 1.0, random.randrange(9), samples, ignore_end=random.random() < 0.1)
        return Submit(len(self.clients) + 1, prompt, None, prompt_tokens, (), (), sampling, digests=True)

    def _submit(self, submit: Submit, *, sure: bool = False) -> None:
        failures = {
            rank: self.random.choice(FAILURES)
            for rank in range(self.shape.tp)
            if not sure and self.random.random() < self.shape.failing
        }
        self.clients[submit.request_id] = Client(submit, failures)
        self.leader.submit(submit)
        self._hear_leader()

    def _abort(self) -> None:
        """Any request, or one that never was; all of it, or a sample that may not exist; perhaps twice."""
        alive = [request_id for request_id, client in self.clients.items() if not client.done]
        anything = range(len(self.clients) + 2)
        request_id = self.random.choice(alive if alive and self.random.random() < 0.8 else anything)
        sample = self.random.choice((-1, 0, 0, 1, 2, 7))
        client = self.clients.get(request_id)
        if client is not None:
            self._note_abort(client, sample)
        for _ in range(self.random.choice((1, 1, 2))):
            self.leader.abort(Abort(request_id, sample))
        self._hear_leader()

    def _note_abort(self, client: Client, sample: int) -> None:
        phase = "waiting" if client.submit.request_id not in self.planned else "preparing"
        if client.outcome is not None:
            phase = "done" if client.done else ("decoding" if client.tokens else "prompt")
        self.events[f"abort, {phase}"] += 1
        if sample < 0:
            client.aborted = True
        elif sample in client.tokens and sample in client.open:
            client.stopped.add(sample)
            self.events["abort of a sample"] += 1

    def _leave(self) -> None:
        self.events["front end left"] += 1
        self.attached = False
        for client in self.clients.values():
            client.aborted = True
        self.leader.abort_all()

    def _turn(self) -> bool:
        """One turn of the leader's loop, in the order of `LeaderLoop.run`, and some of each follower's."""
        for rank in self.ranks[1:]:
            self._deliver(rank)
        plan = self.leader.propose()
        self._hear_leader()
        if plan is not None:
            self._lead(encode(plan))
        if not self.attached and self.leader.settled:
            check(all(rank.empty for rank in self.ranks), "a new front end was let in before the old one's was dropped")
            self.attached = True
        for rank in self.ranks[1:]:
            while rank.plans and (len(rank.plans) > self.shape.lag_max or self.random.random() < 0.5):
                rank.take_next()
        return plan is not None

    def _deliver(self, rank: SimulatedRank) -> None:
        for _ in range(self.random.randint(0, len(rank.answers))):
            answer = rank.answers.popleft()
            if isinstance(answer, Held):
                self.leader.held(answer)
            else:
                self.leader.position(answer)

    def _lead(self, message: bytes) -> None:
        check(len(message) <= MESSAGE_BYTES_MAX, f"a plan of {len(message)} bytes")
        for rank in self.ranks:
            rank.plans.append(message)
        leading = self.ranks[0]
        step = leading.take_next()
        for submit in step.prepare:
            check(submit.request_id > max(self.planned, default=0), "first come is not first served")
            self.planned.add(submit.request_id)
        self.events["requests that share a plan"] += len(step.prepare) > 1
        self.events["forks"] += len(step.forks)
        self._check_memory()
        answers, leading.answers = leading.answers, deque()
        for answer in answers:
            self.leader.held(answer) if isinstance(answer, Held) else self.leader.position(answer)
        tokens = tuple(self.random.randint(0, 19) for _ in step.drawn)
        self.leader.sampled(step.drawn, tokens)
        self._hear_leader()

    # The books.

    def _check_memory(self) -> None:
        """What the ranks hold at this plan fits into what the operator gave."""
        submits = self.ranks[0].held.values()
        samples = sum(submit.sampling.samples for submit in submits)
        kv_tokens = sum(
            (submit.prompt_tokens + submit.sampling.tokens_max) * submit.sampling.samples for submit in submits
        )
        check(samples <= self.shape.running_max, "more samples run than may")
        check(kv_tokens <= self.shape.kv_tokens_max, "more cache memory is promised than there is")

    def _hear_leader(self) -> None:
        while self.leader.outbox:
            record = self.leader.outbox.popleft()
            check(len(encode(record)) <= MESSAGE_BYTES_MAX, "a record of the leader is too long")
            if isinstance(record, Admitted | Failed):
                self._conclude(record)
            elif isinstance(record, Tokens):
                for token in record.tokens:
                    self._receive(self.clients[token.request_id], token)

    def _conclude(self, record: Admitted | Failed) -> None:
        """From now on the request's slots may be somebody else's."""
        client = self.clients[record.request_id]
        self.events[type(record).__name__] += 1
        check(client.outcome is None, f"request {record.request_id} was concluded twice")
        client.outcome = record
        if record.request_id in self.planned:
            for rank in self.ranks:
                check(record.request_id in rank.answered, f"rank {rank.rank} may still read slots that were released")
        if isinstance(record, Admitted):
            check(not client.failures, "a request was admitted that a rank had failed at")
            digests = tuple((digest_of(rank, record.request_id),) for rank in range(self.shape.tp))
            check(record.digests == digests, "the digests are not those of the ranks, in order")
        else:
            self._check_failure(client, record.failure)

    def _check_failure(self, client: Client, failure: Failure) -> None:
        if client.submit.request_id in self.planned and client.failures:
            check(failure == client.failures[min(client.failures)], "the first failing rank says why")
            return
        sampling = client.submit.sampling
        kv_tokens = (client.submit.prompt_tokens + sampling.tokens_max) * sampling.samples
        if kv_tokens > self.shape.kv_tokens_max or sampling.samples > self.shape.running_max:
            check(failure.status == 413, "what never fits is the client's error")
            return
        check(client.aborted, f"request {client.submit.request_id} failed of nothing: {failure}")
        check(failure.status == 503, "nobody waits for the answer to an abort")

    def _receive(self, client: Client, token: Token) -> None:
        check(isinstance(client.outcome, Admitted), "a token came before its request was admitted")
        check(not client.aborted, "a token came after its request was aborted")
        check(token.sample in client.open, f"{token} came after its sample had ended")
        tokens = client.tokens.setdefault(token.sample, [])
        tokens.append(token)
        sampling = client.submit.sampling
        reason = "length" if len(tokens) == sampling.tokens_max else None
        if token.token in END_TOKENS and not sampling.ignore_end:
            reason = "stop"
        check(token.reason == reason, f"{token} should say {reason}")

    def _check_end(self) -> None:
        for client in self.clients.values():
            check(client.done, f"request {client.submit.request_id} never ended")
        first = self.ranks[0]
        for rank in self.ranks:
            check(rank.empty, f"rank {rank.rank} holds what nobody wants")
            check(rank.steps == first.steps, f"rank {rank.rank} took other steps than the leader")
            check(rank.digests == first.digests, f"rank {rank.rank} has another admission log than the leader")
        progress = self.leader.progress()
        check((progress.running, progress.waiting, progress.kv_tokens) == (0, 0, 0), f"{progress} after the end")
        check(self.leader.settled, "nothing is left, and the leader does not know")

    def _final_exam(self) -> None:
        """A request that needs all seats and all memory: it is served, unless any of either has leaked."""
        self.shape.aborting = self.shape.leaving = 0.0
        samples = self.shape.running_max
        each = self.shape.kv_tokens_max // samples
        submit = Submit(len(self.clients) + 1, b"", None, each - 3, (), (), Sampling(3, 1.0, 1.0, 0, samples))
        self._submit(submit, sure=True)
        self._drain()
        client = self.clients[submit.request_id]
        check(isinstance(client.outcome, Admitted), "a leak: not all seats and memory came back")
        self._check_end()
