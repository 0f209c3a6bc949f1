"""The points where a request's injected fault can happen. Without a fault, this is one comparison."""

from __future__ import annotations

import time

from mmplane.core.faults import Fault, InjectedFault, Point


def strike(fault: Fault | None, point: Point, rank: int) -> None:
    """Delay or raise InjectedFault if the fault is meant for this point of this rank."""
    if fault is not None and fault.point == point and (fault.rank == rank or point == "construct"):
        if fault.delay_ms:
            time.sleep(fault.delay_ms / 1000)
        if fault.error:
            raise InjectedFault(point)
