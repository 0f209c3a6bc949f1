"""The parser as seen by the front end: runs one job at a time; tenants take turns, and each job has a deadline.

A parser that misses a deadline is replaced. Only the request that it was parsing fails; waiting requests go to the next
parser. One parser is enough: with turns and a deadline, a tenant waits for at most one job of each other tenant.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.control import Replace
from mmplane.core.errors import unavailable
from mmplane.core.parsing import FromParser, Kind, Parse, Parsed, ParseFailed, ParserReady
from mmplane.core.records import Record, Slot
from mmplane.waiting.fair_lock import FairLock
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

JOB_SECONDS = 4.0
"""Time limit for one body: less than `--stall-seconds`, and several times the usual maximum."""


@dataclass(eq=False)
class _Job:
    job_id: int
    slot: Slot
    done: asyncio.Future[Parsed]
    overdue: asyncio.TimerHandle


class ParserQueue:
    """Sends bodies to the parser. There is one parser process at a time; while there is none, requests wait."""

    def __init__(self, arena: Arena, tell_supervisor: Callable[[Record], object]) -> None:
        self._arena = arena
        self._tell_supervisor = tell_supervisor
        self._process = Process("parser", 0, 0)
        self._mailbox: Mailbox | None = None
        self._job: _Job | None = None
        self._job_ids = itertools.count(1)
        self._turn = FairLock("no parser was free for this request in time", usable=False)
        self.parsed = 0
        self.ended = 0
        """Number of parsers that have died."""

    def add(self, incarnation: int, descriptor: int) -> None:
        """A parser was started; it accepts bodies once it has reported that it is ready."""
        link: Link[FromParser] = Link(descriptor, FromParser)
        self._process = Process("parser", 0, incarnation)
        self._mailbox = Mailbox(link, receive=lambda record, _: self._receive(record))

    def remove(self, incarnation: int) -> None:
        """The supervisor reports that this parser is dead: the request it was parsing fails, and its claims end."""
        self.ended += 1
        if incarnation == self._process.incarnation and self._mailbox is not None:
            self._mailbox.close()
            self._mailbox, self._turn.usable = None, False
            if (job := self._end_job()) is not None and not job.done.done():
                job.done.set_exception(unavailable("the process that was parsing this request ended"))
        self._arena.reaped(Process("parser", 0, incarnation))

    async def ask(self, slot_of: Callable[[], Slot], body_bytes: int, tenant: str, kind: Kind = "chat") -> Parsed:
        """Have a body parsed in its turn; `slot_of` returns its slot, or writes it into one. Raises RequestError.

        The parser's lease ends with its answer or its death, even if nobody waits any more.
        """
        await self._turn.acquire(tenant)
        try:
            slot = slot_of()
        except BaseException:
            self._turn.release()
            raise
        done: asyncio.Future[Parsed] = asyncio.get_running_loop().create_future()
        overdue = asyncio.get_running_loop().call_later(JOB_SECONDS, self._replace)
        self._job = job = _Job(next(self._job_ids), slot, done, overdue)
        self._arena.lease(slot, self._process, job.job_id)
        if self._mailbox is None or not self._mailbox.post(Parse(job.job_id, slot, body_bytes, kind)):
            self._end_job()  # the parser is dead and never hears of this slot; the next one is reported as idle
            self._arena.release(slot, self._process, job.job_id)
            raise unavailable("long requests cannot be parsed now")
        return await done

    def _replace(self) -> None:
        self._tell_supervisor(Replace(self._process.index, self._process.incarnation))

    def _end_job(self) -> _Job | None:
        job, self._job = self._job, None
        if job is not None:
            job.overdue.cancel()
        return job

    def _receive(self, record: FromParser) -> None:
        if isinstance(record, ParserReady):
            self._turn.usable = True
        else:
            job = self._end_job()
            assert job is not None
            assert job.job_id == record.job_id
            self._arena.release(job.slot, self._process, job.job_id)
            self._settle(job.done, record)
        self._turn.release()

    def _settle(self, done: asyncio.Future[Parsed], record: Parsed | ParseFailed) -> None:
        if done.done():
            return  # the request that asked for it is gone
        if isinstance(record, ParseFailed):
            done.set_exception(record.failure.error())
            return
        self.parsed += 1
        done.set_result(record)
