"""The worker pool as the front end sees it: who is idle, what each does, and by when it must be done.

    STARTING ──WorkerReady──> IDLE ──job──> BUSY ──answer──> IDLE
        └────────────┴────────────┴─deadline─> CONDEMNED      any ──WorkerGone──> gone

A condemned worker keeps its slots: they are quarantined until the supervisor says that the process is dead. Where there
are several workers, slow items never take the last of them (`mmplane.items.pace`).

Who asks waits in `mmplane.waiting.room`, in a line for each tenant and pace, until there is an idle worker and room
for the item: no work is done for what would have no place.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from functools import partial

import msgspec

from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import ArenaHasNoRoom, RequestError, overloaded
from mmplane.core.jobs import Examined, FromWorker, JobFailed, Materialised, Measured, ToWorker, WorkerReady
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.records import Record
from mmplane.items.pace import Pace
from mmplane.process.awake import answered
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WaitingRoom
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

JobAnswer = Materialised | Measured | Examined


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
    line: tuple[Pace, str] = (Pace.QUICK, DEFAULT_TENANT)
    """Pace and tenant of the item that it is busy with, or was last."""
    job_id: int = 0
    answer: asyncio.Future[JobAnswer] | None = None


Choose = Callable[[list[Worker]], Worker | Fit]
"""Which of some idle workers an asker takes, at that moment, or why none. May raise RequestError."""


class PoolStatistics(msgspec.Struct, frozen=True):
    """Workers by state, who waits for one, how many missed a deadline, and how many have died of anything."""

    states: dict[str, int]
    waiting: int
    jobs: int
    condemned: int
    ended: int = 0


class Pool:
    """Gives out idle workers in turns; at most `waiting_max` askers wait in each line. `workers` are to be there."""

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
        self._count = workers
        self._item_seconds = item_seconds
        self._tell_supervisor = tell_supervisor
        self._gone = gone
        self._workers: dict[int, Worker] = {}
        self._room: WaitingRoom[Worker] = WaitingRoom(
            give_back=self.free, refusal=_refusal, held=self._busy, waiting_max=waiting_max
        )
        self._job_ids = itertools.count(1)
        self._jobs = 0
        self._condemned = 0
        self._ended = 0
        self.answered_s = float("-inf")
        """When a worker last finished a job, by the monotonic clock."""
        self._waiting_since_s = 0.0

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

        Raises RequestError (503) when too many wait already, and ArenaHasNoRoom when no room came in time.
        """
        if not self._room.waiting:
            self._waiting_since_s = time.monotonic()
        line = (pace, tenant)
        while (worker := await self._room.wait(line, partial(self._take, choose, line))).state is not WorkerState.BUSY:
            pass  # it died between being given and now
        return worker

    def free(self, worker: Worker) -> None:
        """The caller has no more jobs for this worker."""
        if worker.state is WorkerState.BUSY:
            worker.state = WorkerState.IDLE
        self._room.offer()

    def room_came(self) -> None:
        """There may be more room in the arena than before."""
        self._room.offer_soon()

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
        """Whether at least one worker can work, if there are to be any."""
        working = (WorkerState.IDLE, WorkerState.BUSY)
        return not self._count or any(worker.state in working for worker in self._workers.values())

    def is_stuck(self, limit_s: float) -> bool:
        """Whether somebody has waited for a worker for so long, and none has finished anything meanwhile."""
        if not self._room.waiting or self._idle():
            return False
        return time.monotonic() - max(self.answered_s, self._waiting_since_s) > limit_s

    def statistics(self) -> PoolStatistics:
        """The pool now."""
        states = dict.fromkeys((state.value for state in WorkerState), 0)
        for worker in self._workers.values():
            states[worker.state.value] += 1
        return PoolStatistics(states, self._room.waiting, self._jobs, self._condemned, self._ended)

    def _take(self, choose: Choose, line: tuple[Pace, str]) -> Worker | Fit:
        """One of the idle workers, which is busy from now on, or why none."""
        idle = self._idle()
        if not idle or (line[0] is Pace.SLOW and not self._spares_one()):
            return Fit.NOT_YET
        worker = choose(idle)
        if isinstance(worker, Worker):
            worker.state, worker.line = WorkerState.BUSY, line
        return worker

    def _busy(self, line: Hashable) -> int:
        """How many workers this line keeps busy."""
        busy = (worker for worker in self._workers.values() if worker.state is WorkerState.BUSY)
        return sum(worker.line == line for worker in busy)

    def _spares_one(self) -> bool:
        """Whether a slow item may begin: another worker is left for quick ones, now or once it has started."""
        left = [
            worker
            for worker in self._workers.values()
            if worker.state in (WorkerState.STARTING, WorkerState.IDLE)
            or (worker.state is WorkerState.BUSY and worker.line[0] is Pace.QUICK)
        ]
        return self._count <= 1 or len(left) > 1

    def _idle(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.state is WorkerState.IDLE]

    def _receive(self, worker: Worker, record: FromWorker) -> None:
        if isinstance(record, WorkerReady):
            assert record.fingerprint == self._fingerprint, "a worker with another processor than the front end's"
            worker.state = WorkerState.IDLE
            self._room.offer()
            return
        self.answered_s = time.monotonic()
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


def _refusal(stalled: bool) -> RequestError:
    return ArenaHasNoRoom(ever=False) if stalled else overloaded("too many items are waiting for a worker")
