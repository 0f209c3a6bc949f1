"""The messages between the front end and a worker."""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.records import Ask, Count, Layout, Name, Recipe, Record, Slot


class Materialise(Record, frozen=True, tag="materialise"):
    """Front end -> worker: decode `media` and write its features into `out`, a slot of the worker's region.

    `life` identifies the media machine that was ready for this job, as in `WorkerReady`; a porter does it for no other.
    `key` is the item's content key, from which a porter knows whether its machine has the media already.
    """

    job_id: Count
    recipe: Recipe
    media: Slot
    out: Slot
    life: Count = 0
    key: bytes = b""


class Measure(Record, frozen=True, tag="measure"):
    """Front end -> worker: what layout does an image of this size have? (For processors without a closed form.)

    `arguments` are those of the processor, as in `mmplane.core.records.Ask`.
    """

    job_id: Count
    width: Count
    height: Count
    arguments: str = ""


class Examine(Record, frozen=True, tag="examine"):
    """Front end -> worker: what does the clip or sound in `media` become? Native parsers may crash on it.

    `life` and `key` are the same as in `Materialise`.
    """

    job_id: Count
    ask: Ask
    media: Slot
    life: Count = 0
    key: bytes = b""


class Materialised(Record, frozen=True, tag="materialised"):
    """Worker -> front end: the slot holds the features. `bytes_written` counts bytes of the slot.

    `began_s` is when decoding began, on CLOCK_MONOTONIC. `sent_bytes` is how much media was sent to a media machine.
    """

    job_id: Count
    decode_ms: float
    transform_ms: float
    bytes_written: Count
    began_s: float = 0.0
    sent_bytes: Count = 0


class Measured(Record, frozen=True, tag="measured"):
    """Worker -> front end: the answer to `Measure`."""

    job_id: Count
    layout: Layout


class Examined(Record, frozen=True, tag="examined"):
    """Worker -> front end: the answer to `Examine`, the item's recipe. `sent_bytes` as in `Materialised`."""

    job_id: Count
    recipe: Recipe
    sent_bytes: Count = 0


class JobFailed(Record, frozen=True, tag="job_failed"):
    """Worker -> front end: the item failed. The worker is intact and takes the next job."""

    job_id: Count
    failure: Failure


class JobLost(Record, frozen=True, tag="job_lost"):
    """Porter -> front end: the media machine did not do it; the item is not to blame. Nobody writes to its slot."""

    job_id: Count


class JobDied(Record, frozen=True, tag="job_died"):
    """Porter -> front end: the process that decoded the item on the media machine died. Nobody writes to its slot."""

    job_id: Count


class WorkerReady(Record, frozen=True, tag="worker_ready"):
    """Worker -> front end: it has mapped the regions and loaded the processors, and waits for jobs.

    A porter sends it for each media machine that joins; the machine takes `lanes` jobs at a time, in this `life`.
    """

    fingerprint: bytes
    lanes: Count = 1
    life: Count = 0
    machine: Name = ""


class MachineGone(Record, frozen=True, tag="machine_gone"):
    """Porter -> front end: its media machine is lost, with all its jobs. Nobody writes to their slots."""


ToWorker = Materialise | Measure | Examine
FromWorker = Materialised | Measured | Examined | JobFailed | JobLost | JobDied | WorkerReady | MachineGone
