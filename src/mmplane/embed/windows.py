"""Windows: one plane's regions in one process, and claims that live exactly as long as the arrays over them.

A claim is a number: a rank's share of a lease, or a producer's hold. Opening it returns a window, an object that every
array over it keeps alive. When the last of them is gone, the claim has ended: nobody calls release, a reference count
does. A process that was forked later ends nothing: it has copies of the objects, but no claims.

A consumer may have written to private pages. They become the region's again before the claim is reported, because after
that report the bytes may get other content:

    last array gone ──> _ending ──> booked: no view ──> pages restored ──> reported
                                       └── the same item is opened again: restored first
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Lock
from typing import Any
from weakref import finalize

from mmplane.arena.errors import StaleSlot
from mmplane.arena.label import check_label
from mmplane.arena.segment import Access, WindowMapping
from mmplane.core.records import Slot

Register = Callable[[int, int], Callable[[], object] | None]
"""Registers memory of this process with a device's driver, by address and length in bytes. Called in any thread.

It returns a function that undoes this, which is called, in any thread, before the memory is unmapped. None: the driver
refuses.
"""

ENDED_MAX = 16384
"""How many ended claims are remembered: a record that arrives again is rejected instead of read."""


class Windows:
    """The regions of `plane` that are mapped here. `report` gets claims that have ended.

    `report` may be called in any thread, in the middle of anything. An owner that has a thread for this gives `later`,
    which is called instead, and calls `settle` in that thread soon after.

    `register` is called for every region that is mapped `writable`.
    """

    def __init__(
        self,
        plane: bytes,
        report: Callable[[Sequence[int]], object],
        register: Register | None = None,
        *,
        later: Callable[[], object] | None = None,
    ) -> None:
        self.plane = plane
        self._register = register
        self._report = report
        self._later = later or self.settle
        self._pid = os.getpid()
        self._mappings: dict[int, WindowMapping] = {}
        self._lock = Lock()
        self._restored = Condition(self._lock)
        self._settling = Lock()
        self._open: dict[int, finalize[Any, Any]] = {}  # by claim: the end of its window
        self._views: dict[int, int] = {}  # by generation
        self._ending: deque[tuple[int, Slot]] = deque()
        self._ended: dict[int, None] = {}
        self._unreported: list[int] = []
        self._unrestored: dict[int, Slot] = {}  # by generation, as the next
        self._restoring: dict[int, Slot] = {}

    def map(self, region: int, fd: int, length_bytes: int, access: Access, *, populate: bool = True) -> None:
        """Map one region; `fd` still belongs to the caller. A region that cannot be registered is mapped `private`.

        Raises ForeignRegion, OSError.
        """
        check_label(fd, length_bytes, self.plane, region)
        mapping = WindowMapping(fd, length_bytes, access, populate=populate)
        if self._register is not None and access == "writable":
            unregister = self._register(mapping.address, length_bytes)
            if unregister is None:
                mapping = WindowMapping(fd, length_bytes, "private", populate=populate)
            else:
                finalize(mapping, unregister).atexit = False  # the end of the process does this too
        self._mappings[region] = mapping

    @property
    def is_mine(self) -> bool:
        """Whether this process made it, and not one that it was forked from."""
        return os.getpid() == self._pid

    @property
    def is_idle(self) -> bool:
        """Whether no claim is open. Takes no lock, because a finalizer may call it."""
        return not any(end.alive for end in list(self._open.values()))

    def open(self, claim: int, slot: Slot) -> Any:
        """The window of a claim; always the same during its life.

        Raises ValueError if the slot is not inside a region, StaleSlot if the claim has ended here.
        """
        if not self.is_mine:
            raise StaleSlot("this process was forked from the one that attached: attach again")
        mapping = self._mappings.get(slot.region)
        if mapping is None or slot.offset_bytes + slot.length_bytes > mapping.length_bytes:
            raise ValueError("a slot is not inside its region")
        with self._lock:
            self._book()
            window = self._opened(claim)
            if window is None:
                if claim in self._ended:
                    raise StaleSlot("this process has ended that claim")
                while slot.generation in self._restoring:
                    self._restored.wait()
                if self._unrestored.pop(slot.generation, None):  # the same item again
                    mapping.restore(slot.offset_bytes, slot.length_bytes)
                window = mapping.window()
                self._views[slot.generation] = self._views.get(slot.generation, 0) + 1
                self._open[claim] = end = finalize(window, self._end, claim, slot)
                end.atexit = False
        self._look_again()
        return window

    def settle(self) -> None:
        """Restore pages and report claims, as far as claims have ended. May be called anywhere.

        Only one thread does it at a time, and looks again afterwards. A finalizer may call this while its thread holds
        the lock, in `open` for example; then `open` looks again.
        """
        while self._is_unsettled and self._settling.acquire(blocking=False):
            try:
                if not self._lock.acquire(blocking=False):
                    return
                try:
                    self._book()
                    claims, self._unreported = self._unreported, []
                    self._restoring, self._unrestored = self._unrestored, {}
                finally:
                    self._lock.release()
                self._restore()
                self._report(claims)
            finally:
                self._settling.release()

    def unmap(self) -> None:
        """Unmap all regions. Arrays that are alive keep theirs."""
        self._mappings.clear()

    def window(self, region: int) -> Any:
        """A window on a region without any claim."""
        return self._mappings[region].window()

    def statistics(self) -> dict[str, int]:
        """This process's claims now, and how many have ended."""
        with self._lock:
            self._book()
            figures = {"views": sum(self._views.values()), "ended": len(self._ended)}
        self._look_again()
        return figures

    @property
    def _is_unsettled(self) -> bool:
        return bool(self._ending or self._unreported)

    def _look_again(self) -> None:
        if self._is_unsettled:
            self._later()

    def _opened(self, claim: int) -> Any:
        """The window of this claim, if it exists."""
        end = self._open.get(claim)
        present = None if end is None else end.peek()
        return None if present is None else present[0]

    def _end(self, claim: int, slot: Slot) -> None:
        """The last array over this claim is gone."""
        if self.is_mine:
            self._ending.append((claim, slot))
            self._later()

    def _book(self) -> None:
        while self._ending:
            claim, slot = self._ending.popleft()
            self._open.pop(claim, None)
            self._views[slot.generation] -= 1
            if not self._views[slot.generation]:
                del self._views[slot.generation]
                self._unrestored[slot.generation] = slot
            self._unreported.append(claim)
            self._ended[claim] = None
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]

    def _restore(self) -> None:
        try:
            for slot in self._restoring.values():
                if mapping := self._mappings.get(slot.region):
                    mapping.restore(slot.offset_bytes, slot.length_bytes)
        finally:
            with self._lock:
                self._restoring = {}
                self._restored.notify_all()
