"""The worker pool as the front end sees it: who is idle, what each does, and by when it must be done.

    STARTING ──WorkerReady──> IDLE ──job──> BUSY ──answer──> IDLE
        └────────────┴────────────┴─deadline─> CONDEMNED      any ──WorkerGone──> gone

A condemned worker keeps its slots: they are quarantined until the supervisor says that the process is dead. Where there
are several workers, slow items never take the last of them (`mmplane.frontend.turns`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import msgspec

from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import RequestError, overloaded
from mmplane.core.jobs import Examined, FromWorker, JobFailed, Materialised, Measured, ToWorker, WorkerReady
from mmplane.core.records import Record
from mmplane.frontend.admission import DEFAULT_TENANT
from mmplane.frontend.mailbox import Mailbox
from mmplane.frontend.turns import Pace, Turns
from mmplane.wire.link import Link

Answer = Materialised | Measured | Examined


class WorkerLost(RequestError):
    """503: the worker died or is about to be killed. It may still touch its slots until it has been reaped."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "unavailable", message, retry_after_s=1)


class State(Enum):
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
    state: State = State.STARTING
    pace: Pace = Pace.QUICK
    """Of the item that it is busy with, or was last."""
    job_id: int = 0
    answer: asyncio.Future[Answer] | None = None


Choose = Callable[[list[Worker]], Worker]


@dataclass(frozen=True, eq=False)
class _Asker:
    turn: asyncio.Future[Worker]
    choose: Choose


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

        Nobody overtakes another of its own tenant and pace. Raises RequestError (503) when too many wait already.
        """
        if self._turns.count(pace) >= self._waiting_max:
            raise overloaded("too many items are waiting for a worker")
        while (worker := await self._turn(choose, pace, tenant)).state is not State.BUSY:
            pass  # it died between being given and now
        return worker

    async def _turn(self, choose: Choose, pace: Pace, tenant: str) -> Worker:
        asker = _Asker(asyncio.get_running_loop().create_future(), choose)
        self._turns.add(asker, pace, tenant)
        self._offer()
        try:
            return await asker.turn
        except asyncio.CancelledError:
            if not asker.turn.cancelled():
                self.free(asker.turn.result())
            else:
                self._turns.remove(asker, pace, tenant)
            raise

    def free(self, worker: Worker) -> None:
        """The caller has no more jobs for this worker."""
        if worker.state is State.BUSY:
            worker.state = State.IDLE
        self._offer()

    async def ask(self, worker: Worker, build: Callable[[int], ToWorker]) -> Answer:
        """One job on a worker that was taken by `idle`.

        Raises RequestError: the item's own failure, or WorkerLost when the worker died or missed the deadline.
        """
        worker.job_id = next(self._job_ids)
        worker.answer = asyncio.get_running_loop().create_future()
        self._jobs += 1
        if not worker.mailbox.post(build(worker.job_id)):
            worker.state = State.CONDEMNED
            raise WorkerLost(_ENDED)
        try:
            async with asyncio.timeout(self._item_seconds):
                answer = await worker.answer
        except TimeoutError:
            worker.state = State.CONDEMNED
            self._condemned += 1
            self._tell_supervisor(Replace(worker.process.index, worker.process.incarnation))
            raise WorkerLost("an item took too long to process") from None
        except RequestError:
            if worker.state is State.CONDEMNED:
                raise WorkerLost(_ENDED) from None
            raise
        finally:
            worker.answer = None
        if worker.state is State.CONDEMNED:  # it answered and died: its claims have ended with it
            raise WorkerLost(_ENDED)
        return answer

    @property
    def any_ready(self) -> bool:
        """Whether at least one worker can work."""
        return any(worker.state in (State.IDLE, State.BUSY) for worker in self._workers.values())

    def statistics(self) -> PoolStatistics:
        """The pool now."""
        states = dict.fromkeys((state.value for state in State), 0)
        for worker in self._workers.values():
            states[worker.state.value] += 1
        slow = self._turns.count(Pace.SLOW)
        waiting = self._turns.count(Pace.QUICK) + slow
        return PoolStatistics(states, waiting, self._jobs, self._condemned, slow, self._ended)

    def _offer(self) -> None:
        """Hand idle workers to those whose turn it is."""
        while (idle := self._idle()) and (next_one := self._turns.take(slow=self._spares_one())):
            asker, pace = next_one
            if not asker.turn.cancelled():  # it went away in this turn of the loop and has not run since
                worker = asker.choose(idle)
                worker.state, worker.pace = State.BUSY, pace
                asker.turn.set_result(worker)

    def _spares_one(self) -> bool:
        """Whether a slow item may begin: another worker is left for quick ones, now or once it has started."""
        left = [
            worker
            for worker in self._workers.values()
            if worker.state in (State.STARTING, State.IDLE)
            or (worker.state is State.BUSY and worker.pace is Pace.QUICK)
        ]
        return self._alone or len(left) > 1

    def _idle(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.state is State.IDLE]

    def _receive(self, worker: Worker, record: FromWorker) -> None:
        if isinstance(record, WorkerReady):
            assert record.fingerprint == self._fingerprint, "a worker with another processor than the front end's"
            worker.state = State.IDLE
            self._offer()
            return
        if worker.answer is None or worker.answer.done() or record.job_id != worker.job_id:
            return  # its asker has given up
        if isinstance(record, JobFailed):
            worker.answer.set_exception(record.failure.error())
        else:
            worker.answer.set_result(record)

    def _fail(self, worker: Worker) -> None:
        worker.state = State.CONDEMNED
        if worker.answer is not None and not worker.answer.done():
            worker.answer.set_exception(WorkerLost(_ENDED))


_ENDED = "the process that was decoding this item ended"
