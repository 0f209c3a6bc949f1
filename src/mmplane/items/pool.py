"""The worker pool as seen by the front end: the state of each worker, its job, and the job's deadline.

    STARTING ──WorkerReady──> IDLE ──job──> BUSY ──answer──> IDLE
        └────────────┴────────────┴─deadline─> CONDEMNED      any ──WorkerGone──> gone

A media machine is represented by a *porter*, a process with its own region that accepts several jobs at a time. It
counts as one worker per lane of the machine; these come with `WorkerReady` and go with `MachineGone`
(`mmplane.machines.porter`).

A condemned worker keeps its slots: they are quarantined until the supervisor reports that the process is dead. If there
are several workers, slow items never take the last of them (`mmplane.items.pace`).

Requests wait in `mmplane.waiting.room`, in a line for each tenant and pace, until there is both an idle worker and room
for the item, so no work is done for an item that has no place.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Hashable
from functools import partial

import msgspec

from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import ArenaHasNoRoom, RequestError, overloaded
from mmplane.core.jobs import (
    FromWorker,
    JobDied,
    JobFailed,
    JobLost,
    MachineGone,
    ToWorker,
    WorkerReady,
)
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.records import Record
from mmplane.items.crew import (
    Crew,
    DecoderDied,
    JobAnswer,
    MachineLost,
    MachineTally,
    Where,
    Worker,
    WorkerLost,
    WorkerState,
)
from mmplane.items.pace import Pace
from mmplane.process.awake import answered
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WaitingRoom
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

AWAY_ITEMS = 2
"""Additional time on a media machine, where an item may wait for another one before it is processed."""
AWAY_SECONDS = 10.0
"""Additional time for the transfer of its bytes."""


Choose = Callable[[list[Worker]], Worker | Fit]
"""Chooses one of some idle workers, at that moment, or returns why none fits. May raise RequestError."""


class PoolStatistics(msgspec.Struct, frozen=True):
    """Workers by state, waiting items, and how many workers missed a deadline or died for any reason.

    `lanes` are those of media machines by state. `machines` have joined, and there are `places` for them; `lost` were
    lost. `jobs_away` of the jobs went to machines.
    """

    states: dict[str, int]
    waiting: int
    jobs: int
    condemned: int
    ended: int = 0
    lanes: dict[str, int] = {}
    machines: tuple[MachineTally, ...] = ()
    places: int = 0
    lost: int = 0
    jobs_away: int = 0


class Pool:
    """Distributes idle workers; tenants take turns, and each line has at most `waiting_max` waiting items."""

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
        self._crews: dict[int, Crew] = {}
        self._room: WaitingRoom[Worker] = WaitingRoom(
            give_back=self.free, refusal=_refusal, held=self._busy, waiting_max=waiting_max
        )
        self._job_ids = itertools.count(1)
        self._jobs = 0
        self._condemned = 0
        self._ended = 0
        self._lost = 0
        self._jobs_away = 0
        self.answered_s = float("-inf")
        """When a worker last finished a job (monotonic clock)."""
        self._waiting_since_s = 0.0

    def add(self, index: int, incarnation: int, descriptor: int) -> None:
        """A worker or (with a higher number) a porter was started; it is idle once it reports that it is ready."""
        link: Link[FromWorker] = Link(descriptor, FromWorker)
        mailbox = Mailbox(link, receive=lambda record, _: self._receive(crew, record))
        process = Process("worker", index, incarnation)
        porter = index > self._count
        crew = Crew(process, mailbox, [] if porter else [Worker(process, mailbox)], porter)
        self._crews[index] = crew

    def remove(self, index: int, incarnation: int) -> None:
        """The supervisor reports that this worker is dead: its jobs fail, its claims end."""
        self._ended += 1
        crew = self._crews.get(index)
        if crew is not None and crew.process.incarnation == incarnation:
            del self._crews[index]
            crew.mailbox.close()
            self._dismiss(crew)
        self._gone(Process("worker", index, incarnation))
        self._room.offer_soon()

    async def idle(
        self,
        choose: Choose,
        *,
        pace: Pace = Pace.QUICK,
        tenant: str = DEFAULT_TENANT,
        where: Where = Where.HERE,
    ) -> Worker:
        """Wait for an idle worker and take it; `choose` selects among several. Return it with `free`.

        Raises RequestError (503) if too many wait already, and ArenaHasNoRoom if no room became free in time.
        """
        if not self._room.waiting:
            self._waiting_since_s = time.monotonic()
        line = (pace, tenant)
        take = partial(self._take, choose, line, where)
        while (worker := await self._room.wait(line, take)).state is not WorkerState.BUSY:
            pass  # it died after it was chosen
        return worker

    def free(self, worker: Worker) -> None:
        """The caller has no more jobs for this worker."""
        if worker.state is WorkerState.BUSY:
            worker.state = WorkerState.IDLE
        self._room.offer()

    def room_came(self) -> None:
        """The arena may have more room than before. Without an idle worker nobody could use it."""
        if self._room.waiting and _idle(self._here() + self._away()):
            self._room.offer_soon()

    async def ask(self, worker: Worker, build: Callable[[int], ToWorker]) -> JobAnswer:
        """Run one job on a worker that was taken with `idle`.

        Raises RequestError: the item's own error; WorkerLost if the worker died or missed the deadline; MachineLost or
        DecoderDied if that happened on a media machine.
        """
        worker.job_id = next(self._job_ids)
        worker.answer = asyncio.get_running_loop().create_future()
        self._jobs += 1
        self._jobs_away += worker.away
        if not worker.mailbox.post(build(worker.job_id)):
            worker.state = WorkerState.CONDEMNED
            raise worker.ended()
        limit_s = self._item_seconds * AWAY_ITEMS + AWAY_SECONDS if worker.away else self._item_seconds
        try:
            answer = await answered(worker.answer, limit_s=limit_s)
        except TimeoutError:
            worker.state = WorkerState.CONDEMNED
            self._condemned += 1
            self._tell_supervisor(Replace(worker.process.index, worker.process.incarnation))
            raise WorkerLost("an item took too long to process") from None
        except RequestError:
            if worker.state is WorkerState.CONDEMNED:
                raise worker.ended() from None
            raise
        finally:
            worker.answer = None
        if worker.state is WorkerState.CONDEMNED:  # it answered and died: its claims have ended with it
            raise worker.ended()
        crew = self._crews.get(worker.process.index)
        if crew is not None and crew.machine is not None:
            crew.machine.count(answer)
        return answer

    @property
    def any_ready(self) -> bool:
        """Whether at least one worker can work, if there should be any."""
        working = (WorkerState.IDLE, WorkerState.BUSY)
        return not self._count or any(worker.state in working for worker in self._here())

    def is_stuck(self, limit_s: float) -> bool:
        """Whether an item has waited this long while no worker has finished anything."""
        if not self._room.waiting or _idle(self._here() + self._away()):
            return False
        return time.monotonic() - max(self.answered_s, self._waiting_since_s) > limit_s

    def statistics(self) -> PoolStatistics:
        """The current state of the pool."""
        porters = [crew for crew in self._crews.values() if crew.porter]
        return PoolStatistics(
            _by_state(self._here()),
            self._room.waiting,
            self._jobs,
            self._condemned,
            self._ended,
            lanes=_by_state(self._away()),
            machines=tuple(crew.machine for crew in porters if crew.machine is not None),
            places=len(porters),
            lost=self._lost,
            jobs_away=self._jobs_away,
        )

    def _take(self, choose: Choose, line: tuple[Pace, str], where: Where) -> Worker | Fit:
        """Choose an idle worker and mark it busy, or return why none fits."""
        present = self._present(where)
        idle = _idle(present)
        if not idle or (line[0] is Pace.SLOW and not self._spares_one(present)):
            return Fit.NOT_YET
        worker = choose(idle)
        if isinstance(worker, Worker):
            worker.state, worker.line = WorkerState.BUSY, line
        return worker

    def _busy(self, line: Hashable) -> int:
        """Number of workers that this line keeps busy."""
        busy = (worker for worker in self._here() + self._away() if worker.state is WorkerState.BUSY)
        return sum(worker.line == line for worker in busy)

    def _spares_one(self, present: list[Worker]) -> bool:
        """Whether a slow item may start: another worker must remain for quick ones, now or once it has started."""
        left = [
            worker
            for worker in present
            if worker.state in (WorkerState.STARTING, WorkerState.IDLE)
            or (worker.state is WorkerState.BUSY and worker.line[0] is Pace.QUICK)
        ]
        count = len(present) if present[0].away else self._count
        return count <= 1 or len(left) > 1

    def _present(self, where: Where) -> list[Worker]:
        """The workers that an item may use, on this machine or on others."""
        here = self._here()
        if where is Where.HERE or (where is Where.HERE_FIRST and _idle(here)):
            return here
        return self._away() or here

    def _here(self) -> list[Worker]:
        return [worker for crew in self._crews.values() if not crew.porter for worker in crew.workers]

    def _away(self) -> list[Worker]:
        return [worker for crew in self._crews.values() if crew.porter for worker in crew.workers]

    def _receive(self, crew: Crew, record: FromWorker) -> None:
        if isinstance(record, WorkerReady):
            assert record.fingerprint == self._fingerprint, "a worker whose processor differs from the front end's"
            self._begin(crew, record)
            return
        if isinstance(record, MachineGone):
            self._lost += 1
            self._dismiss(crew)
            self._room.offer()
            return
        self.answered_s = time.monotonic()
        answer = next((each.answer for each in crew.workers if each.job_id == record.job_id), None)
        if answer is None or answer.done():
            return  # the request that asked for it has given up
        match record:
            case JobFailed():
                answer.set_exception(record.failure.error())
            case JobLost():
                answer.set_exception(MachineLost())
            case JobDied():
                answer.set_exception(DecoderDied())
            case _:
                answer.set_result(record)

    def _begin(self, crew: Crew, ready: WorkerReady) -> None:
        if crew.porter:
            crew.machine = MachineTally(crew.process.index - self._count, ready.machine, ready.lanes)
            crew.workers = [Worker(crew.process, crew.mailbox, life=ready.life) for _ in range(ready.lanes)]
        for worker in crew.workers:
            worker.state = WorkerState.IDLE
        self._room.offer()

    @staticmethod
    def _dismiss(crew: Crew) -> None:
        """No worker is behind this process any more."""
        workers, crew.workers, crew.machine = crew.workers, [], None
        for worker in workers:
            worker.state = WorkerState.CONDEMNED
            if worker.answer is not None and not worker.answer.done():
                worker.answer.set_exception(worker.ended())


def _idle(workers: list[Worker]) -> list[Worker]:
    return [worker for worker in workers if worker.state is WorkerState.IDLE]


def _by_state(workers: list[Worker]) -> dict[str, int]:
    states = dict.fromkeys((state.value for state in WorkerState), 0)
    for worker in workers:
        states[worker.state.value] += 1
    return states


def _refusal(stalled: bool) -> RequestError:
    return ArenaHasNoRoom(ever=False) if stalled else overloaded("too many items are waiting for a worker")
