"""One sidecar per server of an engine: a child of the launcher, which the server's processes can find.

    sidecar, place = begin(VARIABLE, groups=(2,), model=None, producers_bytes=2**30)  # launcher, before the others
    place = Place.inherited(VARIABLE)                                                 # every process of the server

The sidecar ends with `end(sidecar)`, or when the launcher ends in any way, because it reads a pipe whose other end only
the launcher has.
"""

from __future__ import annotations

import atexit
import mmap
import os
from typing import Protocol, Self, Unpack

import msgspec

from mmplane.core.records import Count, Record
from mmplane.embed.sidecar import Settings, Sidecar


class Place(Record, frozen=True):
    """What a server's processes need: the sidecar's socket, ranks per group, each producer's share of memory.

    With ranks on several machines there is no sidecar. `board` is the path of this machine's
    `mmplane.engines.kit.board.Board`.
    """

    socket: str
    groups: tuple[Count, ...]
    region_bytes: Count = 0
    board: str = ""

    @classmethod
    def inherited(cls, variable: str) -> Self | None:
        """The place of this process's server; None if the plugin is off or the variable is another process's."""
        try:
            return msgspec.json.decode(os.environ.get(variable, ""), type=cls)
        except msgspec.DecodeError:
            return None

    def publish(self, variable: str) -> None:
        """Pass it to child processes that start from now on."""
        os.environ[variable] = msgspec.json.encode(self).decode()


def begin(
    variable: str, *, groups: tuple[int, ...], region_bytes: int = 0, **settings: Unpack[Settings]
) -> tuple[Sidecar, Place]:
    """Start a sidecar without waiting for it, and publish its place.

    `region_bytes` is the size that each producer may request, rounded down to whole pages, because a sidecar rounds
    up. Raises OSError.
    """
    forget(variable)
    sidecar = Sidecar.begin(**settings)
    atexit.register(sidecar.stop)
    place = Place(sidecar.socket, groups, region_bytes - region_bytes % mmap.PAGESIZE)
    place.publish(variable)
    return sidecar, place


class Stoppable(Protocol):
    """A sidecar, or what takes its place on a machine."""

    def stop(self) -> None:
        """End it. May be called again."""


def end(sidecar: Stoppable) -> None:
    """Stop it now. May be called again."""
    atexit.unregister(sidecar.stop)
    sidecar.stop()


def forget(variable: str) -> None:
    """Clear the place, so that children of a process that starts several servers do not inherit another server's."""
    os.environ.pop(variable, None)
