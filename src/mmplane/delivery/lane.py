"""The lane: a rank's one background thread for everything that must keep its order.

All ranks must enter the collectives of one process group in the same order. A pool of threads cannot guarantee that.
One thread with one queue, filled in the order of the plans, can.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

log = logging.getLogger("mmplane")

Job = Callable[[], None]


class Lane:
    """Runs jobs one after the other, in the order of `submit`. The thread starts with the first job.

    A job that raises ends the process: a collective has failed, so this group is broken and must be replaced.
    """

    def __init__(self, *, waiting_max: int) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting_max = waiting_max
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Run `job` after all earlier ones. Raises queue.Full above `waiting_max`; the plans limit how many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lane", daemon=True)
            self._thread.start()
        if self.waiting >= self._waiting_max:
            raise queue.Full
        self._jobs.put(job)

    @property
    def waiting(self) -> int:
        """The number of jobs that have not begun."""
        return self._jobs.qsize()

    def close(self, limit_s: float) -> bool:
        """Finish all submitted jobs. Returns whether they ended within `limit_s` seconds. Idempotent."""
        if self._thread is None:
            return True
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a collective failed; this group of ranks ends and is replaced")
                logging.shutdown()
                os._exit(1)
