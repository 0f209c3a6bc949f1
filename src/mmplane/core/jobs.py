"""Jobs: what the front end asks of a worker, and what comes back."""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.records import Ask, Count, Layout, Name, Recipe, Record, Slot


class Materialise(Record, frozen=True, tag="materialise"):
    """Front end -> worker: decode what lies in `media`, write its features into `out`, in the worker's region.

    `life` is that of the media machine which was ready for it, as in `WorkerReady`: a porter does it for no other.
    `key` is the item's, by which a porter knows that its machine has the media already.
    """

    job_id: Count
    recipe: Recipe
    media: Slot
    out: Slot
    life: Count = 0
    key: bytes = b""


class Measure(Record, frozen=True, tag="measure"):
    """Front end -> worker: which layout has an image of this size? (Processors without a closed form.)

    `arguments` are the processor's, as in `mmplane.core.records.Ask`.
    """

    job_id: Count
    width: Count
    height: Count
    arguments: str = ""


class Examine(Record, frozen=True, tag="examine"):
    """Front end -> worker: what does the clip or sound that lies in `media` become? Native parsers may die of it.

    `life` and `key` as in `Materialise`.
    """

    job_id: Count
    ask: Ask
    media: Slot
    life: Count = 0
    key: bytes = b""


class Materialised(Record, frozen=True, tag="materialised"):
    """Worker -> front end: the slot holds the features. Times in milliseconds; `bytes_written` counts slot bytes.

    `began_s` is when decoding began, on CLOCK_MONOTONIC. `sent_bytes` of media went to a media machine for it.
    """

    job_id: Count
    decode_ms: float
    transform_ms: float
    bytes_written: Count
    began_s: float = 0.0
    sent_bytes: Count = 0


class Measured(Record, frozen=True, tag="measured"):
    """Worker -> front end: the layout that was asked for."""

    job_id: Count
    layout: Layout


class Examined(Record, frozen=True, tag="examined"):
    """Worker -> front end: how to materialise the item that was asked about. `sent_bytes` as in `Materialised`."""

    job_id: Count
    recipe: Recipe
    sent_bytes: Count = 0


class JobFailed(Record, frozen=True, tag="job_failed"):
    """Worker -> front end: the item's error; the worker is well and takes the next job."""

    job_id: Count
    failure: Failure


class JobLost(Record, frozen=True, tag="job_lost"):
    """Porter -> front end: the media machine did not do it, and nobody writes to its slot. Not the item's doing."""

    job_id: Count


class JobDied(Record, frozen=True, tag="job_died"):
    """Porter -> front end: the process that decoded it over there ended. Nobody writes to its slot."""

    job_id: Count


class WorkerReady(Record, frozen=True, tag="worker_ready"):
    """Worker -> front end: mapped, loaded, waiting for jobs.

    A porter says it for each media machine that joins: it takes `lanes` jobs at a time, in this `life`.
    """

    fingerprint: bytes
    lanes: Count = 1
    life: Count = 0
    machine: Name = ""


class MachineGone(Record, frozen=True, tag="machine_gone"):
    """Porter -> front end: its media machine is lost, with all its jobs. Nobody writes to their slots."""


ToWorker = Materialise | Measure | Examine
FromWorker = Materialised | Measured | Examined | JobFailed | JobLost | JobDied | WorkerReady | MachineGone
