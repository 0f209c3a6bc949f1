"""Jobs: what the front end asks of a worker, and what comes back."""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.records import Count, Layout, Name, Record, Slot


class Materialise(Record, frozen=True, tag="materialise"):
    """Front end -> worker: decode what lies in `media`, write its features into `out`, in the worker's region."""

    job_id: Count
    modality: Name
    media: Slot
    out: Slot
    layout: Layout


class Measure(Record, frozen=True, tag="measure"):
    """Front end -> worker: which layout has an image of this size? (Processors without a closed form.)"""

    job_id: Count
    modality: Name
    width: Count
    height: Count


class Materialised(Record, frozen=True, tag="materialised"):
    """Worker -> front end: the slot holds the features. Times in milliseconds; `bytes_written` counts slot bytes."""

    job_id: Count
    decode_ms: float
    transform_ms: float
    bytes_written: Count


class Measured(Record, frozen=True, tag="measured"):
    """Worker -> front end: the layout that was asked for."""

    job_id: Count
    layout: Layout


class JobFailed(Record, frozen=True, tag="job_failed"):
    """Worker -> front end: the item's error; the worker is well and takes the next job."""

    job_id: Count
    failure: Failure


class WorkerReady(Record, frozen=True, tag="worker_ready"):
    """Worker -> front end: mapped, loaded, waiting for jobs."""

    fingerprint: bytes


ToWorker = Materialise | Measure
FromWorker = Materialised | Measured | JobFailed | WorkerReady
