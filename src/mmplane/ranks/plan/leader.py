"""The leader's decisions as a pure core: records in, plans and records out. No clock, no tensor, no I/O.

    WAITING ──prepare──> PREPARING ──all ranks hold it──> RUNNING ──end, length, abort──> gone
       └─abort─> gone        └─a rank failed, or abort, once all ranks have answered─> gone

A request whose items come inline waits until its parcel has arrived. If a request is aborted while it is being
prepared, the ranks are told that they may stop working on it, and it ends when all have answered.

A request's slots may be released when the leader sends `Admitted` or `Failed`: by then every rank has answered `Held`,
so none reads them any more.
"""

from __future__ import annotations

from collections import deque

from mmplane.core.errors import Failure, too_large, unavailable
from mmplane.core.plan import (
    Abort,
    Admitted,
    Cancel,
    Failed,
    Finish,
    FromLeader,
    Held,
    Plan,
    Position,
    Progress,
    RankReport,
    Sampling,
    Submit,
    Token,
    Tokens,
    Work,
)
from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.ranks.plan.cache_table import CacheTable
from mmplane.ranks.plan.embedding_table import EmbeddingTable
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.request import Phase, Request
from mmplane.ranks.plan.room import Room, Sizes
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import SequenceId
from mmplane.waiting.share import Share
from mmplane.wire.link import encode

PLAN_BYTES_MAX = MESSAGE_BYTES_MAX - 26 * 1024
"""The room for what a plan prepares. The rest is for the tokens, admissions and ends of `RUNNING_MAX` sequences, and
for cache evictions."""
KEEP_BYTES = 12
"""The size in a plan of each item whose embeddings are kept."""

POSITIONS_KEPT = 4096
CANCELS_MAX = 256
"""Cancellations in one plan; more wait for the next plan."""

NO_STATES = Room(0, 0, Sizes(0))


class Diverged(Exception):
    """Two ranks disagree about what was admitted. The group cannot be trusted, so it ends."""


class Leader:
    """Decides what each step admits, aborts and releases."""

    def __init__(
        self,
        *,
        tp: int,
        schedule: Schedule,
        running_max: int,
        end_tokens: frozenset[int],
        tenants: int = 1,
        cache_bytes: int = 0,
        embeddings: EmbeddingTable | None = None,
        room: Room = NO_STATES,
    ) -> None:
        self._tp = tp
        self._schedule = schedule
        self._running_max = running_max
        self._tenants = tenants
        self._blocks = Share(schedule.blocks.total, tenants)
        self._samples = Share(running_max, tenants)
        self._room = room
        self._states = Share(room.states_bytes, tenants)
        """In bytes."""
        self._end_tokens = end_tokens
        self._requests: dict[int, Request] = {}
        self._waiting: dict[str, deque[int]] = {}  # by tenant, in order of submission; no tenant without any
        self._number = 0
        self._finish: list[Finish] = []
        self._cancel: deque[Cancel] = deque()
        self._cache = CacheTable(cache_bytes)
        self._embeddings = embeddings or EmbeddingTable(0, 0)
        self._early: dict[int, bool] = {}
        """Parcels that came before their request, and whether they were forwarded."""
        self._unwanted: set[int] = set()
        """Requests that ended before their parcel came."""
        self._tokens: tuple[int, ...] = ()
        self._own: dict[int, bytes] = {}
        self._reports: dict[int, RankReport] = {}
        self.outbox: deque[FromLeader] = deque()
        """Records for the front end, in order."""

    # Messages in.

    def submit(self, submit: Submit) -> None:
        """A new request from the front end."""
        request = Request(submit, blocks=self._blocks_of(submit))
        if submit.parcel_bytes:
            request.awaits_parcel = self._early.pop(submit.request_id, None) is None
        if not self._ever_fits(request):
            self._drop_parcel(request)
            self.outbox.append(Failed(submit.request_id, _NEVER_FITS))
            return
        self._requests[submit.request_id] = request
        self._waiting.setdefault(submit.tenant, deque()).append(submit.request_id)

    def arrived(self, request_id: int, *, relayed: bool) -> None:
        """A request's parcel has arrived at every rank that gets it."""
        request = self._requests.get(request_id)
        if request is not None:
            request.awaits_parcel = False
        elif request_id in self._unwanted:
            self._unwanted.remove(request_id)
            self._cancel.append(Cancel(request_id, prepared=False, relayed=relayed))
        else:
            self._early[request_id] = relayed

    def abort(self, abort: Abort) -> None:
        """Nobody waits for this sample, or for the whole request, any more. Idempotent."""
        request = self._requests.get(abort.request_id)
        if request is None:
            return
        if abort.sample >= 0:
            if request.drawn.get(abort.sample):
                self._end_sample(request, abort.sample, "abort")
        elif request.phase is Phase.RUNNING:
            self._finish.append(Finish(abort.request_id, -1, "abort"))
            self._forget(request)
        elif request.phase is Phase.WAITING:
            self._leave(request)
            del self._requests[abort.request_id]
            self._drop_parcel(request)
            self.outbox.append(Failed(abort.request_id, _ABORTED))
        elif not request.aborted:
            request.aborted = True
            self._cancel.append(Cancel(abort.request_id, prepared=True, relayed=request.submit.relayed))

    def abort_all(self) -> None:
        """The front end is gone, and its stream has ended: drop everything that it had submitted."""
        for request_id in list(self._requests):
            self.abort(Abort(request_id))
        for request_id, relayed in self._early.items():
            self._cancel.append(Cancel(request_id, prepared=False, relayed=relayed))
        self._early.clear()
        self._unwanted.clear()

    def held(self, held: Held) -> None:
        """A rank has prepared a request, or could not."""
        self._requests[held.request_id].held[held.rank] = held

    def position(self, position: Position) -> None:
        """A rank has applied a plan. Raises Diverged if its admission log differs from the leader's."""
        if position.rank == 0:
            self._own[position.number] = position.digest
            self._own.pop(position.number - POSITIONS_KEPT, None)
        if self._own.get(position.number, position.digest) != position.digest:
            raise Diverged(f"rank {position.rank} differs from the leader at plan {position.number}")
        self._reports[position.rank] = RankReport(
            position.rank,
            position.number,
            position.digest,
            position.parcels,
            position.cached,
            position.received_bytes,
            position.kept_bytes,
            position.passing_bytes,
        )

    def sampled(self, sequences: tuple[SequenceId, ...], drawn: tuple[Drawn, ...]) -> None:
        """The tokens that the step sampled. They go to the front end now, and to every rank with the next plan."""
        self._tokens = tuple(each.token for each in drawn)
        out = []
        failures = {ids[0]: each.failure for ids, each in zip(sequences, drawn, strict=True) if each.failure}
        for (request_id, sample), each in zip(sequences, drawn, strict=True):
            if request_id in failures:
                continue
            request = self._requests[request_id]
            request.drawn[sample] = count = request.drawn.get(sample, 0) + 1
            reason = self._reason(request.submit.sampling, each.token, count)
            out.append(Token(request_id, sample, each.token, reason, each.logprob, each.likely))
            if reason:
                self._end_sample(request, sample, reason)
        if out:
            self.outbox.append(Tokens(self._number, tuple(out)))
        for request_id, failure in failures.items():
            self._fail(self._requests[request_id], failure, "error")

    def _reason(self, sampling: Sampling, token: int, count: int) -> str | None:
        ends = token in self._end_tokens and not sampling.ignore_end
        if ends or token in sampling.end_tokens:
            return "stop"
        return "length" if count >= sampling.tokens_max else None

    # Decisions out.

    def propose(self, now_s: float = 0.0) -> Plan | None:
        """The next plan; None if there is nothing to do until a message arrives. `now_s` is only for measurements."""
        admit = self._settle(now_s)
        prepare = self._choose()
        running = any(request.drawn for request in self._requests.values())
        if not (running or admit or prepare or self._finish or self._tokens or self._cancel):
            return None
        self._number += 1
        cancel = tuple(self._cancel.popleft() for _ in range(min(len(self._cancel), CANCELS_MAX)))
        plan = Plan(
            self._number,
            self._tokens,
            tuple(self._finish),
            tuple(admit),
            tuple(prepare),
            cancel,
            self._cache.take_plan(),
            reuse=tuple((each.request_id, len(self._requests[each.request_id].found)) for each in prepare),
            embeddings=self._embeddings.take_plan(),
            fragile=tuple(each.request_id for each in prepare if not self._requests[each.request_id].embeddings.whole),
        )
        self._finish, self._tokens = [], ()
        return plan

    def progress(self) -> Progress:
        """The current state, for metrics and for the watchdog."""
        return Progress(
            self._number,
            sum(request.phase is Phase.RUNNING for request in self._requests.values()),
            sum(map(len, self._waiting.values())),
            self._schedule.blocks.used * self._schedule.blocks.block_tokens,
            tuple(self._reports[rank] for rank in sorted(self._reports)),
            self._schedule.report(),
        )

    @property
    def settled(self) -> bool:
        """Whether every rank has applied every plan so far and no request is left."""
        reached = (self._reports[rank].number if rank in self._reports else 0 for rank in range(self._tp))
        return not self._requests and not self._cancel and min(reached) >= self._number

    @property
    def number(self) -> int:
        """The newest plan's number."""
        return self._number

    def _settle(self, now_s: float) -> list[int]:
        """Admit, in order of submission, what every rank holds. End what has failed on any rank."""
        admit = []
        for request_id, request in list(self._requests.items()):
            if request.phase is not Phase.PREPARING or len(request.held) < self._tp:
                continue
            failure = request.failure or (_ABORTED if request.aborted else None)
            if failure is not None:
                self._fail(request, failure, "abort" if request.aborted else "error")
            else:
                request.phase = Phase.RUNNING
                request.drawn = dict.fromkeys(range(request.submit.sampling.samples), 0)
                admit.append(request_id)
                self._cache.keep(request.submit)
                digests = tuple(request.held[rank].digests for rank in range(self._tp))
                work, embedded = self._work(request), request.embeddings.found
                cached_tokens = len(request.found) * self._schedule.blocks.block_tokens
                self.outbox.append(Admitted(request_id, digests, request.reused, work, now_s, embedded, cached_tokens))
        return admit

    def _choose(self) -> list[Submit]:
        """Start preparing waiting requests as long as memory, seats and the message's size allow.

        A tenant's requests go in order of submission, and the tenant with the fewest seats goes first. It may not use
        more than its share, so a tenant with long answers cannot keep all seats from another one.
        """
        prepare: list[Submit] = []
        bytes_left = PLAN_BYTES_MAX
        taken = 0
        while self._samples.total_held < self._running_max and (request := self._next()):
            submit = request.submit
            bytes_left -= len(encode(submit)) + KEEP_BYTES * len(submit.items)
            if bytes_left < 0 or not self._has_seats(submit):
                break
            request.found = tuple(self._schedule.look(submit))
            wanted = self._wanted(request)
            request.embeddings = self._embeddings.look(submit)
            if not self._has_room(request, taken + wanted):
                self._embeddings.refuse(submit.request_id)
                break
            taken += wanted
            self._leave(request)
            self._samples.take(submit.tenant, submit.sampling.samples)
            self._states.take(submit.tenant, self._room.states_of(submit))
            self._blocks.take(submit.tenant, request.blocks)
            request.phase = Phase.PREPARING
            request.reused = self._cache.look(submit)
            prepare.append(submit)
        return prepare

    def _ever_fits(self, request: Request) -> bool:
        """Whether it would fit if its tenant had nothing else."""
        submit = request.submit
        return (
            request.blocks <= self._blocks.each_max
            and submit.sampling.samples <= self._samples.each_max
            and self._room.states_of(submit) <= self._states.each_max
        )

    def _has_seats(self, submit: Submit) -> bool:
        """Whether there are seats for all of its samples, and room for their states."""
        return (
            self._samples.total_held + submit.sampling.samples <= self._running_max
            and self._states.total_held + self._room.states_of(submit) <= self._room.states_bytes
        )

    def _blocks_of(self, submit: Submit) -> int:
        count_for, tokens = self._schedule.blocks.count_for, self._schedule.blocks.block_tokens
        whole = submit.prompt_tokens // tokens
        longest = submit.prompt_tokens + submit.sampling.tokens_max
        return whole + (count_for(longest) - whole) * submit.sampling.samples

    def _wanted(self, request: Request) -> int:
        """The blocks that a request takes for its prompt and the beginning of its answers."""
        blocks, submit = self._schedule.blocks, request.submit
        begun = blocks.count_for(submit.prompt_tokens) - len(request.found) + blocks.newly_used(request.found)
        return min(begun + submit.sampling.samples, request.blocks)

    def _has_room(self, request: Request, wanted: int) -> bool:
        """Whether it may begin: there are `wanted` blocks for it and for the others that begin with it.

        Answers get their blocks one by one, and the youngest is preempted if there are none. So the oldest can always
        finish: whatever computed blocks the others found and keep, the rest is enough for the longest answer. A request
        whose items' embeddings are not all kept cannot be computed again, so it is never preempted: it keeps all of its
        blocks.
        """
        blocks = self._schedule.blocks
        held = [each for each in self._requests.values() if each.phase is not Phase.WAITING]
        if not held:
            return True
        if self._tenants > 1:  # reserved in full, so that no tenant's answers displace another's
            return self._blocks.total_held + request.blocks <= blocks.total
        largest = max(each.blocks - len(each.found) for each in (request, *held))
        fragile = sum(each.blocks for each in (request, *held) if not each.embeddings.whole)
        kept = blocks.pinned + blocks.newly_pinned(request.found) + fragile
        return wanted <= blocks.available - self._schedule.promised and largest + kept <= blocks.total

    def _next(self) -> Request | None:
        """The next request: each tenant's first one whose parcel is here, if it is within the tenant's share."""
        first = (
            next((request for request in map(self._requests.__getitem__, queue) if not request.awaits_parcel), None)
            for queue in self._waiting.values()
        )
        within = [request for request in first if request is not None and self._is_within_share(request)]
        return min(
            within,
            key=lambda request: (self._samples.held(request.submit.tenant), request.submit.request_id),
            default=None,
        )

    def _is_within_share(self, request: Request) -> bool:
        submit, tenant = request.submit, request.submit.tenant
        if not self._samples.allows(tenant, submit.sampling.samples):
            return False
        if not self._states.allows(tenant, self._room.states_of(submit)):
            return False
        return self._tenants < 2 or self._blocks.allows(tenant, request.blocks)

    def _leave(self, request: Request) -> None:
        """It no longer waits."""
        queue = self._waiting[request.submit.tenant]
        queue.remove(request.submit.request_id)
        if not queue:
            del self._waiting[request.submit.tenant]

    def _drop_parcel(self, request: Request) -> None:
        """A request that was in no plan has ended. Its parcel is wherever it was forwarded to, or still to come."""
        request_id = request.submit.request_id
        if request.awaits_parcel:
            self._unwanted.add(request_id)
        elif request.submit.parcel_bytes:
            self._cancel.append(Cancel(request_id, prepared=False, relayed=request.submit.relayed))

    def _work(self, request: Request) -> tuple[Work, ...]:
        return tuple(request.held[rank].work for rank in range(self._tp))

    def _fail(self, request: Request, failure: Failure, reason: str) -> None:
        """It ends on all ranks with the next plan."""
        self._finish.append(Finish(request.submit.request_id, -1, reason))
        self._forget(request)
        self.outbox.append(Failed(request.submit.request_id, failure, self._work(request)))

    def _end_sample(self, request: Request, sample: int, reason: str) -> None:
        del request.drawn[sample]
        self._finish.append(Finish(request.submit.request_id, sample, reason))
        if not request.drawn:
            self._forget(request)

    def _forget(self, request: Request) -> None:
        del self._requests[request.submit.request_id]
        self._embeddings.release(request.submit.request_id)
        self._samples.give_back(request.submit.tenant, request.submit.sampling.samples)
        self._states.give_back(request.submit.tenant, self._room.states_of(request.submit))
        self._blocks.give_back(request.submit.tenant, request.blocks)


_NEVER_FITS = too_large(
    "prompt and answer need more cache memory or seats than this server allows one tenant"
).failure()
_ABORTED = unavailable("the request was aborted").failure()
