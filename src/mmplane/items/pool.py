"""The worker pool as the front end sees it: who is idle, what each does, and by when it must be done.

    STARTING ──WorkerReady──> IDLE ──job──> BUSY ──answer──> IDLE
        └────────────┴────────────┴─deadline─> CONDEMNED      any ──WorkerGone──> gone

A condemned worker keeps its slots: they are quarantined until the supervisor says that the process is dead. Where there
are several workers, slow items never take the last of them (`mmplane.waiting.turns`).

An asker that finds no room with the idle workers waits on, so that no work is done for what would have no place. Who
would wait behind such askers is told at once, if more are there than had their turn within `FORESEEN_SECONDS`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

import msgspec

from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import ArenaHasNoRoom, RequestError, overloaded
from mmplane.core.jobs import Examined, FromWorker, JobFailed, Materialised, Measured, ToWorker, WorkerReady
from mmplane.core.records import Record
from mmplane.process.awake import answered
from mmplane.waiting.admission import DEFAULT_TENANT
from mmplane.waiting.tempo import Tempo
from mmplane.waiting.turns import Pace, Turns
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

JobAnswer = Materialised | Measured | Examined

FORESEEN_SECONDS = 1.0
"""No more wait for room than had their turn within this time: about as long do they wait."""
WAITING_MIN = 8
"""So many may always wait for room."""


class WorkerLost(RequestError):
    """503: the worker died or is about to be killed. It may still touch its slots until it has been reaped."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "unavailable", message, retry_after_s=1)


class WorkerState(Enum):
    """What a worker is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    CONDEMNED = "condemned"


@dataclass
class Worker:
    """One life of one worker; it writes region `process.index`."""

    process: Process
    mailbox: Mailbox
    state: WorkerState = WorkerState.STARTING
    pace: Pace = Pace.QUICK
    """Of the item that it is busy with, or was last."""
    job_id: int = 0
    answer: asyncio.Future[JobAnswer] | None = None


Choose = Callable[[list[Worker]], Worker | None]
"""Which of some idle workers an asker takes, at that moment; None when there is no room with any. May raise
RequestError."""


@dataclass(frozen=True, eq=False)
class _Asker:
    turn: asyncio.Future[Worker]
    choose: Choose
    pace: Pace


class PoolStatistics(msgspec.Struct, frozen=True):
    """Workers by state, who waits for one (with slow items how many of them), how many missed a deadline, and how many
    have died of anything."""

    states: dict[str, int]
    waiting: int
    jobs: int
    condemned: int
    waiting_slow: int = 0
    ended: int = 0


class Pool:
    """Gives out idle workers in turns; at most `waiting_max` askers wait at each pace. `workers` are to be there."""

    def __init__(
        self,
        *,
        fingerprint: bytes,
        workers: int,
        item_seconds: float,
        waiting_max: int,
        tell_supervisor: Callable[[Record], object],
        gone: Callable[[Process], object],
    ) -> None:
        self._fingerprint = fingerprint
        self._alone = workers <= 1
        self._item_seconds = item_seconds
        self._waiting_max = waiting_max
        self._tell_supervisor = tell_supervisor
        self._gone = gone
        self._workers: dict[int, Worker] = {}
        self._turns: Turns[_Asker] = Turns()
        self._tempo = {pace: Tempo() for pace in Pace}
        self._again: asyncio.Handle | None = None
        """While a queue is blocked: when to look at it again, if no room comes before."""
        self._job_ids = itertools.count(1)
        self._jobs = 0
        self._condemned = 0
        self._ended = 0

    def add(self, index: int, incarnation: int, descriptor: int) -> None:
        """A worker was started; it is idle once it says so."""
        link: Link[FromWorker] = Link(descriptor, FromWorker)
        mailbox = Mailbox(link, receive=lambda record, _: self._receive(worker, record))
        worker = Worker(Process("worker", index, incarnation), mailbox)
        self._workers[index] = worker

    def remove(self, index: int, incarnation: int) -> None:
        """The supervisor says that this worker is dead: its job fails, its claims end."""
        self._ended += 1
        worker = self._workers.get(index)
        if worker is not None and worker.process.incarnation == incarnation:
            del self._workers[index]
            worker.mailbox.close()
            self._fail(worker)
        self._gone(Process("worker", index, incarnation))

    async def idle(self, choose: Choose, *, pace: Pace = Pace.QUICK, tenant: str = DEFAULT_TENANT) -> Worker:
        """Wait for an idle worker and take it; `choose` picks when there are several. Give it back with `free`.

        Nobody overtakes another of its own tenant and pace. Raises RequestError (503) when too many wait already, and
        ArenaHasNoRoom when none came within `mmplane.waiting.turns.BLOCKED_SECONDS` or too many wait for it.
        """
        if self._turns.count(pace) >= self._waiting_max:
            raise overloaded("too many items are waiting for a worker")
        if self._turns.is_blocked(pace, tenant) and self._turns.ahead(pace, tenant) >= self._blocked_max(pace):
            raise ArenaHasNoRoom(ever=False)
        while (worker := await self._turn(choose, pace, tenant)).state is not WorkerState.BUSY:
            pass  # it died between being given and now
        return worker

    async def _turn(self, choose: Choose, pace: Pace, tenant: str) -> Worker:
        asker = _Asker(asyncio.get_running_loop().create_future(), choose, pace)
        self._turns.add(asker, pace, tenant)
        self._offer()
        try:
            return await asker.turn
        except asyncio.CancelledError:
            if asker.turn.cancelled():
                self._turns.remove(asker, pace, tenant)
                self.room_came()  # for who was behind it
            elif asker.turn.exception() is None:
                self.free(asker.turn.result())
            raise

    def free(self, worker: Worker) -> None:
        """The caller has no more jobs for this worker."""
        if worker.state is WorkerState.BUSY:
            worker.state = WorkerState.IDLE
        self._offer()

    def room_came(self) -> None:
        """There may be more room than before: who waits for it is looked at soon."""
        if self._again is not None:
            self._again.cancel()
            self._again = asyncio.get_running_loop().call_soon(self._offer)

    async def ask(self, worker: Worker, build: Callable[[int], ToWorker]) -> JobAnswer:
        """One job on a worker that was taken by `idle`.

        Raises RequestError: the item's own failure, or WorkerLost when the worker died or missed the deadline.
        """
        worker.job_id = next(self._job_ids)
        worker.answer = asyncio.get_running_loop().create_future()
        self._jobs += 1
        if not worker.mailbox.post(build(worker.job_id)):
            worker.state = WorkerState.CONDEMNED
            raise WorkerLost(_ENDED)
        try:
            answer = await answered(worker.answer, limit_s=self._item_seconds)
        except TimeoutError:
            worker.state = WorkerState.CONDEMNED
            self._condemned += 1
            self._tell_supervisor(Replace(worker.process.index, worker.process.incarnation))
            raise WorkerLost("an item took too long to process") from None
        except RequestError:
            if worker.state is WorkerState.CONDEMNED:
                raise WorkerLost(_ENDED) from None
            raise
        finally:
            worker.answer = None
        if worker.state is WorkerState.CONDEMNED:  # it answered and died: its claims have ended with it
            raise WorkerLost(_ENDED)
        return answer

    @property
    def any_ready(self) -> bool:
        """Whether at least one worker can work."""
        return any(worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in self._workers.values())

    def statistics(self) -> PoolStatistics:
        """The pool now."""
        states = dict.fromkeys((state.value for state in WorkerState), 0)
        for worker in self._workers.values():
            states[worker.state.value] += 1
        slow = self._turns.count(Pace.SLOW)
        waiting = self._turns.count(Pace.QUICK) + slow
        return PoolStatistics(states, waiting, self._jobs, self._condemned, slow, self._ended)

    def _offer(self) -> None:
        """Hand idle workers to those whose turn it is, and tell those who have waited for room in vain."""
        now_s = time.monotonic()
        while (idle := self._idle()) and (
            turn := self._turns.take(now_s, slow=self._spares_one(), ready=partial(self._settle, idle, now_s))
        ):
            if turn.in_vain:
                turn.asker.turn.set_exception(ArenaHasNoRoom(ever=False))
        self._look_again(now_s)

    def _settle(self, idle: list[Worker], now_s: float, asker: _Asker) -> bool:
        """Give the asker a worker, or the reason why it gets none; False when it has to wait for room."""
        if asker.turn.cancelled():  # it went away in this turn of the loop and has not run since
            return True
        try:
            worker = asker.choose(idle)
        except RequestError as error:
            asker.turn.set_exception(error)
            return True
        if worker is None:
            return False
        worker.state, worker.pace = WorkerState.BUSY, asker.pace
        self._tempo[asker.pace].turn(now_s)
        asker.turn.set_result(worker)
        return True

    def _look_again(self, now_s: float) -> None:
        """Once the first of a blocked queue has waited for too long; without an idle worker, once there is one."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        in_vain_s = self._turns.in_vain_s(slow=self._spares_one())
        if in_vain_s is not None and self._idle():
            self._again = asyncio.get_running_loop().call_later(in_vain_s - now_s, self._offer)

    def _blocked_max(self, pace: Pace) -> int:
        """How many may wait for room, at this pace: as many as had their turn within `FORESEEN_SECONDS`."""
        return max(WAITING_MIN, self._tempo[pace].since(time.monotonic() - FORESEEN_SECONDS))

    def _spares_one(self) -> bool:
        """Whether a slow item may begin: another worker is left for quick ones, now or once it has started."""
        left = [
            worker
            for worker in self._workers.values()
            if worker.state in (WorkerState.STARTING, WorkerState.IDLE)
            or (worker.state is WorkerState.BUSY and worker.pace is Pace.QUICK)
        ]
        return self._alone or len(left) > 1

    def _idle(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.state is WorkerState.IDLE]

    def _receive(self, worker: Worker, record: FromWorker) -> None:
        if isinstance(record, WorkerReady):
            assert record.fingerprint == self._fingerprint, "a worker with another processor than the front end's"
            worker.state = WorkerState.IDLE
            self._offer()
            return
        if worker.answer is None or worker.answer.done() or record.job_id != worker.job_id:
            return  # its asker has given up
        if isinstance(record, JobFailed):
            worker.answer.set_exception(record.failure.error())
        else:
            worker.answer.set_result(record)

    def _fail(self, worker: Worker) -> None:
        worker.state = WorkerState.CONDEMNED
        if worker.answer is not None and not worker.answer.done():
            worker.answer.set_exception(WorkerLost(_ENDED))


_ENDED = "the process that was decoding this item ended"
