"""A worker process: turns media into features, one item at a time, in its own region and nowhere else.

It may crash because of a bad file. Then only this item fails, and the supervisor starts another worker. Its input is
in slots of the front end's region, which it maps read-only; its answer is a small record.
"""

from __future__ import annotations

import logging
import select
from contextlib import suppress

import msgspec

from mmplane.arena.segment import RegionMapping
from mmplane.config import Config
from mmplane.core.control import Ready, Spawn, ToRank
from mmplane.core.errors import RequestError, internal, overloaded
from mmplane.core.jobs import (
    Examine,
    Examined,
    FromWorker,
    JobFailed,
    Materialise,
    Materialised,
    Measure,
    Measured,
    ToWorker,
    WorkerReady,
)
from mmplane.core.records import Slot
from mmplane.features.adjusted import adjusted
from mmplane.features.choice import Processors, choose
from mmplane.media.materialise import examine, materialise
from mmplane.process import logs, sandbox
from mmplane.process.child import BEAT_SECONDS, Control
from mmplane.process.printed import Printed
from mmplane.process.priority import step_back
from mmplane.wire.link import Link, PeerGone

log = logging.getLogger("mmplane")


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Serve as worker `spawn.index` until the supervisor ends the process or the front end is gone."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    step_back()
    network = sandbox.isolate()
    if network is sandbox.Network.NONE:
        log.warning(
            "worker %d can reach the network: this kernel allows no network namespace, and libseccomp is missing",
            spawn.index,
        )
    printed, stderr = Printed.divert()
    logs.go_on(stderr)
    control = Control(Link(descriptors["control"], ToRank))
    lengths_bytes = config.region_bytes()
    jobs = Jobs(
        choose(config),
        media=RegionMapping(descriptors["media"], lengths_bytes[0], writable=False),
        features=RegionMapping(descriptors["features"], lengths_bytes[spawn.index], writable=True),
    )
    sandbox.limit(data_bytes=config.decode_bytes())
    frontend: Link[ToWorker] = Link(descriptors["frontend"], ToWorker)
    frontend.send(WorkerReady(jobs.fingerprint), limit_s=config.stall_seconds)
    control.tell(Ready())
    poller = select.poll()
    poller.register(frontend, select.POLLIN)
    with suppress(PeerGone):  # a new front end gets new workers
        while True:
            control.beat()
            received = frontend.receive_nowait()
            if received is None:
                poller.poll(BEAT_SECONDS * 1000)
                continue
            sandbox.allow_cpu(config.item_seconds)
            answer = jobs.answer(received[0])
            if said := printed.take():
                log.warning("a decoder printed for job %d: %s", received[0].job_id, said)
            frontend.send(answer, limit_s=config.stall_seconds)


class Jobs:
    """Does one job at a time; every failure of an item is a value."""

    def __init__(self, processors: Processors, *, media: RegionMapping, features: RegionMapping) -> None:
        self._processors = processors
        self._media = media
        self._features = features
        processors.warm()

    @property
    def fingerprint(self) -> bytes:
        """Fingerprint of the processors: it must equal the front end's, or the keys would be wrong."""
        return self._processors.fingerprint

    def answer(self, job: ToWorker) -> FromWorker:
        """Return the job's result, or the item's failure."""
        try:
            if isinstance(job, Measure):
                images = adjusted(self._processors, "image", job.arguments).for_images
                return Measured(job.job_id, images.layout(job.width, job.height))
            if isinstance(job, Examine):
                return Examined(job.job_id, examine(self._processors, self._slot(job.media), job.ask))
            return self._materialise(job)
        except RequestError as error:
            return JobFailed(job.job_id, error.failure())
        except MemoryError:
            log.error("no memory for job %d", job.job_id)
            return JobFailed(job.job_id, overloaded("the server has no memory for this item now").failure())
        except (OSError, ValueError, RuntimeError) as error:
            log.exception("job %d failed", job.job_id)
            return JobFailed(
                job.job_id, internal(f"the item could not be processed ({type(error).__name__})").failure()
            )

    def _slot(self, media: Slot) -> memoryview:
        return self._media.view(media.offset_bytes, media.length_bytes)

    def _materialise(self, job: Materialise) -> Materialised:
        made = materialise(
            self._processors,
            self._slot(job.media),
            job.recipe,
            self._features.view(job.out.offset_bytes, job.out.length_bytes),
        )
        return Materialised(job.job_id, made.decode_ms, made.transform_ms, made.bytes_written, made.began_s)
