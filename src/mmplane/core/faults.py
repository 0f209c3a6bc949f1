"""Faults that tests inject into one request: an exception or a delay, at a named point of its delivery, on one rank.

They travel in the request itself, so a test decides which request is affected, and no fault stays switched on. A server
accepts them only if it was started with `--fault-injection on`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mmplane.core.records import Count, Record

DELAY_MS_MAX = 1000

Point = Literal["construct", "materialise", "before_collective", "in_collective", "after_collective", "view", "encode"]
"""`construct` happens in the front end (`rank` is ignored); `in_collective` is while the object is pickled or
unpickled."""


class Fault(Record, frozen=True):
    """The fault: wait for `delay_ms`, then fail if `error` is set."""

    point: Point
    rank: Count = 0
    error: bool = True
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)] = 0


class InjectedFault(Exception):
    """The exception that a test asked for."""
