"""Whether decoding is recorded as CUDA graphs on this rank, and why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mmplane.ranks.model.graphs import Recorded, Run, shapes_for
from mmplane.ranks.model.runner import Runner

log = logging.getLogger("mmplane")


def record_decoding(
    runner: Runner, how: Recorded, *, running_max: int, tp: int, recorder: Callable[[], Callable[[Run], Run]]
) -> None:
    """Record graphs for up to `running_max` sequences, before the server is ready. A reason against it is logged."""
    if tp > 1 or runner.keeps_states:
        why = "several ranks are not covered" if tp > 1 else "the model's layers keep more than keys and values"
        log.info("decoding is not recorded as CUDA graphs: %s", why)
        return
    shapes, began_s = shapes_for(running_max), time.monotonic()
    try:
        runner.record(shapes, how, recorder())
    except Exception:  # whatever a model does that cannot be recorded
        log.warning("decoding cannot be recorded as CUDA graphs; it runs without them", exc_info=True)
        return
    log.info("decoding is recorded as %d CUDA graphs, in %.1f s", len(shapes), time.monotonic() - began_s)
