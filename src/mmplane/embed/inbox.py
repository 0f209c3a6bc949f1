"""A rank's side of the library: a record in, arrays out, and the lease ends with the last of them.

The region is mapped once, when the rank joins, so that nothing can fail later on one rank and not on another: opening a
record is arithmetic. The mapping is private: who writes into an array in place changes only this rank's copy of the
page, and that copy is dropped before the next use of those bytes.

What is not to like: views of one item that live at the same time on one rank share that copy. A consumer that writes in
place takes copies (`View.arrays(library, copy=True)`).
"""

from __future__ import annotations

import os
import weakref
from collections import Counter, deque
from typing import Any

from mmplane.arena.arrays import array
from mmplane.arena.errors import StaleSlot
from mmplane.arena.segment import PrivateMapping
from mmplane.embed.address import Address
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, tell_nowait

ENDED_MAX = 16384
"""So many ended leases are remembered: a record that comes again is refused instead of read."""


class Inbox:
    """One rank's window on a plane. Raises OSError when the plane cannot be reached, ValueError if there is no `rank`.

    Its calls belong to one thread; arrays may die in any.
    """

    def __init__(self, address: Address, rank: int) -> None:
        address.group_of(rank)
        self.rank = rank
        self._tell_fd = address.open(address.tell_fd, os.O_WRONLY | os.O_NONBLOCK)
        region_fd = address.open(address.region_fd, os.O_RDONLY)
        try:
            self._memory = PrivateMapping(region_fd, address.length_bytes)
        finally:
            os.close(region_fd)
        self._open: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by lease
        self._views: Counter[int] = Counter()  # by generation
        self._ending: deque[tuple[int, int]] = deque()  # (lease, generation), by finalizers of any thread
        self._ended: dict[int, None] = {}
        tell_nowait(self._tell_fd, JOINED, rank)

    def open(self, leased: Leased) -> View:
        """The view that this record stands for; the same memory when it is opened again while it lives.

        Raises ValueError when the slot is not inside the region, StaleSlot when this rank has ended the lease.
        """
        self._settle()
        slot = leased.item.slot
        if slot.region != 0 or slot.offset_bytes + slot.length_bytes > self._memory.length_bytes:
            raise ValueError("a slot outside of its region")
        window = self._open.get(leased.lease)
        if window is None:
            if leased.lease in self._ended:
                raise StaleSlot("this rank has ended that lease")
            if not self._views[slot.generation]:
                self._memory.restore(slot.offset_bytes, slot.length_bytes)
            window = self._memory.window()
            self._views[slot.generation] += 1
            self._open[leased.lease] = window
            weakref.finalize(window, self._end, leased.lease, slot.generation).atexit = False
        return View(leased, window)

    def statistics(self) -> dict[str, int]:
        """Leases of this rank now, and how many have ended."""
        self._settle()
        return {"views": self._views.total(), "ended": len(self._ended)}

    def _end(self, lease: int, generation: int) -> None:
        """The last array over this lease is gone. May run in any thread, in the middle of anything."""
        self._ending.append((lease, generation))
        tell_nowait(self._tell_fd, lease, self.rank)

    def _settle(self) -> None:
        while self._ending:
            lease, generation = self._ending.popleft()
            self._views[generation] -= 1
            if not self._views[generation]:
                del self._views[generation]
            self._ended[lease] = None
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]


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
