"""A porter: the local end of a media machine, which looks like a worker. One process for each machine that may join.

    front end ── Materialise ──> porter ── Work, media ──> machine
              <── Materialised ──   │   <── Made, arrays ──
                                    └ receives them directly into its own region
              ── Examine ──>           ── Look, media ──>
              <── Examined ──          <── Looked ──

The front end sees a worker with several lanes. Only the porter writes its region. When a machine is lost, nothing
writes to its slots, so they are free at once. A job for a machine of an earlier life is never sent to a later one.

    no machine ── Hello, the same kin ──> WorkerReady(lanes, life) ── lost ──> MachineGone ──> no machine
"""

from __future__ import annotations

import logging
import select
import socket
import time
from contextlib import suppress
from math import isfinite
from threading import Lock
from typing import Any

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.arena.spans import pieces
from mmplane.config import Config
from mmplane.core.control import Ready, Spawn, ToRank
from mmplane.core.errors import internal
from mmplane.core.jobs import (
    Examine,
    Examined,
    JobDied,
    JobFailed,
    JobLost,
    MachineGone,
    Materialise,
    Materialised,
    Measure,
    ToWorker,
    WorkerReady,
)
from mmplane.core.records import Record
from mmplane.features.arithmetic.encodings import dtype_of
from mmplane.features.choice import Processors, choose
from mmplane.machines.assignment import assignment_of
from mmplane.machines.channel import SILENCE_SECONDS, Channel
from mmplane.machines.door import Door
from mmplane.machines.greeting import Refusal
from mmplane.machines.kept import Kept
from mmplane.machines.kin import differences, kin_of
from mmplane.machines.pin import server_context
from mmplane.machines.records import (
    SECRET_BYTES,
    Declined,
    Died,
    FromMachine,
    Hello,
    Look,
    Looked,
    Made,
    NotMade,
    Pulse,
    Welcome,
    Work,
)
from mmplane.process import sandbox
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.process.handed import handed
from mmplane.process.priority import step_back
from mmplane.process.title import entitle
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import Link, LinkError, PeerGone, ProtocolError

log = logging.getLogger("mmplane")

Answer = Made | Looked | NotMade | Declined | Died

TELL_SECONDS = 5.0
LOADING_SECONDS = 120.0


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve as porter `spawn.index` until the supervisor ends the process or the front end is gone."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    step_back()
    sandbox.isolate()  # the listening socket is inherited, and accepted connections are outside the sandbox
    secrets = handed(descriptors["cluster_secrets"])
    key, certificate = secrets[:SECRET_BYTES], secrets[SECRET_BYTES:]
    control = Control(Link(descriptors["control"], ToRank))
    lengths_bytes = config.region_bytes()
    porter = Porter(
        config,
        choose(config),
        frontend=Link(descriptors["frontend"], ToWorker),
        media=RegionMapping(descriptors["media"], lengths_bytes[0], writable=False),
        features=RegionMapping(descriptors["features"], lengths_bytes[spawn.index], writable=True),
        region=spawn.index,
    )
    tls = server_context(certificate) if certificate else None
    door = Door(socket.socket(fileno=descriptors["listener"]), key, porter.admit, tls, request=Hello)
    control.tell(Ready())
    with suppress(PeerGone):  # a new front end gets new porters
        while True:
            control.beat()
            porter.wait(door)


class Machine:
    """One life of one media machine: its connection and its jobs."""

    def __init__(self, hello: Hello, life: int, kept_bytes: int) -> None:
        self.name = hello.name
        self.lanes = hello.lanes
        self.life = life
        self.jobs: dict[int, tuple[Materialise | Examine, int]] = {}
        """Bytes of media that were sent with each job."""
        self.kept: Kept[bytes] = Kept(kept_bytes)
        """Keys of items whose media it has examined."""
        self.channel: Channel


class Porter:
    """Forwards jobs of the front end, and receives features. Other threads call `admit` and `Machine`'s methods."""

    def __init__(
        self,
        config: Config,
        processors: Processors,
        *,
        frontend: Link[ToWorker],
        media: RegionMapping,
        features: RegionMapping,
        region: int,
    ) -> None:
        self._config = config
        self._processors = processors
        self._frontend = frontend
        self._media = media
        self._features = features
        self._region = region
        self._kin = kin_of(config, processors)
        self._lock = Lock()
        self._machine: Machine | None = None
        self._lives = 0

    def wait(self, door: Door[Hello]) -> None:
        """Handle everything that arrives within a beat. Raises PeerGone when the front end is gone."""
        free = self._machine is None
        poller = select.poll()
        poller.register(self._frontend, select.POLLIN)
        if free:
            poller.register(door.fileno(), select.POLLIN)
        poller.poll(BEAT_SECONDS * 1000)
        door.look(free=free)
        while (received := self._frontend.receive_nowait()) is not None:
            self._take(received[0])

    # Machines.

    def admit(self, hello: Hello, end: End) -> None:
        """Serve a client that has the key; the socket is this object's unless it raises Refusal, LinkError."""
        if hello.wants == "assignment":
            self._assign(end)
            return
        if different := differences(self._kin, hello.kin):
            raise Refusal(different, outdated=True)
        if not hello.lanes:
            raise Refusal("a machine without workers")
        with self._lock:
            if self._machine is not None:
                raise Refusal(f"this server has the {self._config.join_max} machines that --join-max allows")
            self._lives += 1
            machine = self._machine = Machine(hello, self._lives, self._config.body_bytes_max)
        self._begin(machine, end)

    def _assign(self, end: End) -> None:
        try:
            assignment, files = assignment_of(self._config, self._processors)
        except (OSError, ValueError) as error:
            raise Refusal(f"the checkpoint's files cannot be sent: {error}") from None
        stream: Framed[Any] = Framed(
            end, FromMachine, silence_s=SILENCE_SECONDS, until_s=time.monotonic() + LOADING_SECONDS
        )
        stream.send(assignment, [memoryview(content) for content in files.values()])
        stream.close()

    def _begin(self, machine: Machine, end: End) -> None:
        stream: Framed[Any] = Framed(end, FromMachine, silence_s=SILENCE_SECONDS)
        try:
            stream.send(Welcome())
        except LinkError:
            self._machine = None
            raise
        machine.channel = Channel(
            stream,
            hear=lambda record: self._hear(machine, stream, record),
            lost=lambda why: self._lost(machine, why),
        )
        entitle(f"mmplane: porter {machine.name}")
        log.info("%s has joined: %d items at a time", machine.name, machine.lanes)
        if dtype_of(self._processors.encoding) != "uint8":
            log.warning(
                "pictures stay on this machine while its workers are idle: as %s, receiving one costs nearly what "
                "decoding it does (uint8: a seventh)",
                self._processors.encoding,
            )
        self._tell(WorkerReady(self._processors.fingerprint, machine.lanes, machine.life, machine.name))
        machine.channel.start()

    def _lost(self, machine: Machine, why: str) -> None:
        """No thread reads or writes for this machine any more."""
        log.warning("%s is lost with %d items: %s", machine.name, len(machine.jobs), why)
        entitle(f"mmplane: porter {self._region}")
        with self._lock:  # no machine joins before the front end has been told
            self._tell(MachineGone())
            self._machine = None

    # Jobs.

    def _take(self, job: ToWorker) -> None:
        if isinstance(job, Measure):
            self._tell(JobFailed(job.job_id, internal("a media machine cannot do this job").failure()))
            return
        machine = self._machine
        if machine is None or machine.life != job.life:
            self._tell(JobLost(job.job_id))
            return
        media = self._media.view(job.media.offset_bytes, job.media.length_bytes)
        looked = machine.kept.find(job.key) if isinstance(job, Materialise) else 0
        if looked:
            machine.kept.take(looked)
            media = media[:0]
        machine.jobs[job.job_id] = job, len(media)
        if isinstance(job, Materialise):
            machine.channel.post(Work(job.job_id, job.recipe, len(media), looked), [media])
        else:
            machine.kept.put(job.job_id, job.key, len(media))
            machine.channel.post(Look(job.job_id, job.ask, len(media)), [media])

    def _hear(self, machine: Machine, stream: Framed[Any], record: Record) -> None:
        """Handle a record of the machine. Raises LinkError."""
        match record:
            case Pulse():
                return
            case Made() | Looked() | NotMade() | Declined() | Died():
                if record.job_id not in machine.jobs:
                    raise ProtocolError("an answer to a job that it does not have")
                answer = self._answer(*machine.jobs[record.job_id], stream, record)
                del machine.jobs[record.job_id]
                self._tell(answer)
            case _:
                raise ProtocolError(f"{type(record).__name__} from a machine that has joined")

    def _answer(self, job: Materialise | Examine, sent_bytes: int, stream: Framed[Any], record: Answer) -> Record:
        match job, record:
            case Materialise(), Made():
                return self._receive(job, stream, record, sent_bytes)
            case Examine(), Looked(recipe=recipe):
                return Examined(job.job_id, recipe, sent_bytes)
            case _, NotMade(failure=failure) if 400 <= failure.status < 600:
                return JobFailed(job.job_id, failure)
            case _, Died():
                return JobDied(job.job_id)
            case _, Declined():
                return JobLost(job.job_id)
        raise ProtocolError(f"{record} is not an answer to this job")

    def _receive(self, job: Materialise, stream: Framed[Any], made: Made, sent_bytes: int) -> Materialised:
        slot = self._features.view(job.out.offset_bytes, job.out.length_bytes)
        written_bytes = 0
        for span in _spans(job, slot):
            stream.receive_into(span)
            written_bytes += len(span)
        decode_ms, transform_ms = _ms(made.decode_ms), _ms(made.transform_ms)
        began_s = time.perf_counter() - (decode_ms + transform_ms) / 1000  # measured with this machine's clock
        return Materialised(job.job_id, decode_ms, transform_ms, written_bytes, began_s, sent_bytes)

    def _tell(self, record: Record) -> None:
        with suppress(LinkError):  # the main thread notices that the front end is gone
            self._frontend.send(record, limit_s=TELL_SECONDS)


def _spans(job: Materialise, slot: memoryview) -> list[memoryview]:
    try:
        return pieces(job.recipe.layout.tensors, slot)
    except ValueError as error:  # a layout that the machine reported itself when it examined a clip
        raise ProtocolError(str(error)) from None


def _ms(value: float) -> float:
    """A duration that another machine measured."""
    return min(max(value, 0.0), 1e9) if isfinite(value) else 0.0
