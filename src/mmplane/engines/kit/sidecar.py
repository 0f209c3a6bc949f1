"""One sidecar for each server of an engine: a child of the launcher, found by the server's processes.

    sidecar, place = begin(VARIABLE, groups=(2,), model=None, producers_bytes=2**30)  # launcher, before the others
    place = Place.inherited(VARIABLE)                                                 # every process of the server

The sidecar ends with `end(sidecar)`, or with the launcher, however that ends: it reads a pipe whose other end
only the launcher has.
"""

from __future__ import annotations

import atexit
import mmap
import os
from typing import Self, Unpack

import msgspec

from mmplane.core.records import Count, Record
from mmplane.embed.sidecar import Settings, Sidecar


class Place(Record, frozen=True):
    """Where a server's processes meet: the sidecar's socket, ranks in each group, each producer's share of memory."""

    socket: str
    groups: tuple[Count, ...]
    region_bytes: Count = 0

    @classmethod
    def inherited(cls, variable: str) -> Self | None:
        """That of this process's server. None where the plugin is off, or where the variable is not ours."""
        try:
            return msgspec.json.decode(os.environ.get(variable, ""), type=cls)
        except msgspec.DecodeError:
            return None

    def publish(self, variable: str) -> None:
        """From now on children of this process inherit it."""
        os.environ[variable] = msgspec.json.encode(self).decode()


def begin(
    variable: str, *, groups: tuple[int, ...], region_bytes: int = 0, **settings: Unpack[Settings]
) -> tuple[Sidecar, Place]:
    """Start a sidecar, without waiting for it, and publish its place.

    `region_bytes` is what each producer may ask for, rounded down to whole pages: a sidecar rounds up. Raises OSError.
    """
    forget(variable)
    sidecar = Sidecar.begin(**settings)
    atexit.register(sidecar.stop)
    place = Place(sidecar.socket, groups, region_bytes - region_bytes % mmap.PAGESIZE)
    place.publish(variable)
    return sidecar, place


def end(sidecar: Sidecar) -> None:
    """Stop it now. May be called again."""
    atexit.unregister(sidecar.stop)
    sidecar.stop()


def forget(variable: str) -> None:
    """Children do not inherit a place: another server's, in a process that starts several."""
    os.environ.pop(variable, None)
