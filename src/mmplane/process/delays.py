"""Where a request's injected delay makes one stage slow. Without one, a comparison."""

from __future__ import annotations

import asyncio
import time

from mmplane.core.faults import Fault, Stage


def delay(fault: Fault | None, stage: Stage, rank: int | None = None) -> None:
    """Stand still when the fault is meant for this stage, and for this rank where there are several."""
    if fault is not None and fault.point == stage and rank in (None, fault.rank):
        time.sleep(fault.delay_ms / 1000)


async def pause(fault: Fault | None, stage: Stage) -> None:
    """The same for a stage of the front end, whose loop goes on with other requests."""
    if fault is not None and fault.point == stage:
        await asyncio.sleep(fault.delay_ms / 1000)
