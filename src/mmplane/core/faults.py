"""Faults that tests put into one request: an exception or a delay, at a named point of its delivery, on one rank.

They travel in the request itself, so a test decides which request suffers and nothing is left switched on. A server
takes them only when it was started with `--fault-injection on`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mmplane.core.records import Count, Record

DELAY_MS_MAX = 1000

Point = Literal["construct", "materialise", "before_collective", "in_collective", "after_collective", "view", "encode"]
"""`construct` is the front end's (rank is ignored); `in_collective` is while the object is pickled or unpickled."""


class Fault(Record, frozen=True):
    """What goes wrong: `delay_ms` passes, then it fails if `error` is set."""

    point: Point
    rank: Count = 0
    error: bool = True
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)] = 0


class InjectedFault(Exception):
    """What a test asked for."""
