"""A rank's side of the library: a record in, arrays out, and the lease ends with the last of them.

The region is mapped once, when the rank joins, so that nothing can fail later on one rank and not on another: opening a
record is arithmetic. The mapping is private: who writes into an array in place changes only this rank's copy of the
page, and that copy is dropped before the next use of those bytes.

What is not to like: views of one item that live at the same time on one rank share that copy. A consumer that writes in
place takes copies (`View.arrays(library, copy=True)`).
"""

from __future__ import annotations

import os
from typing import Any

from mmplane.arena.arrays import array
from mmplane.arena.errors import ForeignRegion
from mmplane.embed.address import REGION, Address
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, tell_nowait
from mmplane.embed.windows import Windows


class Inbox:
    """One rank's window on a plane. Raises OSError when the plane cannot be reached, ValueError if there is no `rank`.

    Its calls belong to one thread; arrays may die in any.
    """

    def __init__(self, address: Address, rank: int) -> None:
        address.group_of(rank)
        self.rank = rank
        self._tell_fd = address.open(address.tell_fd, os.O_WRONLY | os.O_NONBLOCK)
        self._windows = Windows(address.plane, lambda lease: tell_nowait(self._tell_fd, lease, rank))
        region_fd = address.open_region(os.O_RDONLY)
        try:
            self._windows.map(REGION, region_fd, address.length_bytes, "private")
        finally:
            os.close(region_fd)
        tell_nowait(self._tell_fd, JOINED, rank)

    def open(self, leased: Leased) -> View:
        """The view that this record stands for; the same memory when it is opened again while it lives.

        Raises ValueError when the slot is not inside the region, StaleSlot when this rank has ended the lease, and
        ForeignRegion when the record is of another plane.
        """
        if leased.plane != self._windows.plane:
            raise ForeignRegion("this record is of another plane")
        return View(leased, self._windows.open(leased.lease, leased.item.slot))

    def statistics(self) -> dict[str, int]:
        """Leases of this rank now, and how many have ended."""
        return self._windows.statistics()


class View:
    """One item as this rank sees it. The lease ends when the view and every array of it are gone."""

    def __init__(self, leased: Leased, window: Any) -> None:
        self.leased = leased
        self._window = window

    def arrays(self, library: Any, *, copy: bool = False) -> dict[str, Any]:
        """The item's arrays by name, as `library`'s (`torch` or `numpy`); writable, and private to this process.

        Raises ValueError when an array is not inside its slot, or the library lacks its dtype.
        """
        slot = self.leased.item.slot
        made = {
            tensor.name: array(library, tensor, self._window, slot.offset_bytes, slot.length_bytes)
            for tensor in self.leased.item.tensors
        }
        return {name: _copy(one) for name, one in made.items()} if copy else made


def _copy(values: Any) -> Any:
    return values.clone() if hasattr(values, "clone") else values.copy()
