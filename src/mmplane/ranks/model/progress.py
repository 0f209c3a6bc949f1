"""Logs the progress of loading, which can take minutes."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("mmplane")

PROGRESS_SECONDS = 10.0
GIB = 2**30


@contextmanager
def progress_logged(rank: int, folder: str, *, every_s: float = PROGRESS_SECONDS) -> Iterator[None]:
    """Log the time and memory that loading has taken so far, repeatedly while the block runs."""
    ended = threading.Event()
    began_s = time.monotonic()
    files_gib = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / GIB

    if rank == 0:
        log.info("loading the model: %.1f MB of weights", files_gib * GIB / 1e6)

    def tell() -> None:
        while not ended.wait(every_s):
            peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
            log.info(
                "rank %d has been loading the model for %.0f s: %.1f GiB in memory, %.1f GiB in files",
                *(rank, time.monotonic() - began_s, peak_gib, files_gib),
            )

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
