"""Workers as the pool sees them, here and on media machines, and the errors of items whose worker has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from enum import Enum

import msgspec

from mmplane.arena.leases import Process
from mmplane.core.errors import RequestError, unavailable
from mmplane.core.jobs import Examined, Materialised, Measured
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.items.pace import Pace
from mmplane.wire.mailbox import Mailbox

JobAnswer = Materialised | Measured | Examined
ENDED = "the process that was decoding this item ended"


class WorkerLost(RequestError):
    """503: the worker died or is about to be killed. It may still access its slots until it has been reaped."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "unavailable", message, retry_after_s=1)


class MachineLost(RequestError):
    """503: the media machine with this item is lost. Its slot has no writer, so another worker may try the item."""

    def __init__(self) -> None:
        super().__init__(503, "unavailable", "the machine that was decoding this item was lost", retry_after_s=1)


class DecoderDied(RequestError):
    """503: a media machine's worker ended while it worked on this item. Nobody writes its slot any more."""

    def __init__(self) -> None:
        super().__init__(503, "unavailable", ENDED, retry_after_s=1)


class Where(Enum):
    """Which workers may make an item: those of this machine, or those of media machines if any has joined."""

    HERE = "here"
    HERE_FIRST = "here first"
    AWAY_FIRST = "away first"
    """On this machine only while no media machine has joined; its cores are reserved for work that only it can do."""


class WorkerState(Enum):
    """The state of a worker."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    CONDEMNED = "condemned"


@dataclass
class Worker:
    """One life of one worker, or one lane of a porter. It writes region `process.index`."""

    process: Process
    mailbox: Mailbox
    state: WorkerState = WorkerState.STARTING
    life: int = 0
    """Number of the media machine that does the work; 0 for this machine."""
    line: tuple[Pace, str] = (Pace.QUICK, DEFAULT_TENANT)
    """Pace and tenant of its current or last item."""
    job_id: int = 0
    answer: asyncio.Future[JobAnswer] | None = None

    @property
    def away(self) -> bool:
        """Whether a media machine does the work."""
        return self.life > 0

    def ended(self) -> RequestError:
        """The error of its item when it has ended."""
        return MachineLost() if self.away else WorkerLost(ENDED)


class MachineTally(msgspec.Struct):
    """A media machine since it joined: items made there, bytes of media sent and of features received.

    `place` is one of those that --join-max allows, from 1, because two machines may have the same name.
    """

    place: int
    machine: str
    lanes: int
    items: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def count(self, answer: JobAnswer) -> None:
        """Record a finished job."""
        if isinstance(answer, Materialised | Examined):
            self.sent_bytes += answer.sent_bytes
        if isinstance(answer, Materialised):
            self.items += 1
            self.received_bytes += answer.bytes_written


@dataclass
class Crew:
    """The workers behind one process: itself, or the lanes of a porter; none while no media machine has joined."""

    process: Process
    mailbox: Mailbox
    workers: list[Worker]
    porter: bool
    machine: MachineTally | None = None
    """The media machine that has joined."""


def most_idle(idle: list[Worker]) -> Worker:
    """Return a worker of a machine with the most idle lanes."""
    lanes = Counter(worker.process.index for worker in idle)
    return max(idle, key=lambda worker: lanes[worker.process.index])


def check_alive(worker: Worker) -> None:
    """Raise RequestError (503) if a worker that was taken has died since, which is not the item's fault."""
    if worker.away and worker.state is not WorkerState.BUSY:
        raise MachineLost
    if worker.state is not WorkerState.BUSY:
        raise unavailable("the process that was to decode this item ended")
