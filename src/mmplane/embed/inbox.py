"""A rank's side of the library: a record in, arrays out; the lease ends with the last of them.

The region is mapped once, when the rank joins, so that nothing can fail later on one rank and not on another: opening a
record is arithmetic. The mapping is private: writing to an array in place only changes this rank's copy of the page,
and that copy is dropped before the next use of those bytes.

A weakness: views of one item that exist at the same time on one rank share that copy. A consumer that writes in place
must take copies (`View.arrays(library, copy=True)`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from weakref import finalize

from mmplane.arena.arrays import array
from mmplane.arena.errors import ForeignRegion, StaleSlot
from mmplane.arena.segment import Access
from mmplane.embed.address import REGION, Address
from mmplane.embed.attachment import Attachment
from mmplane.embed.records import Leased
from mmplane.embed.releases import JOINED, tell_nowait
from mmplane.embed.windows import Register, Windows
from mmplane.sidecar.records import VERSION, Hello


class Inbox:
    """One rank's access to a plane: of an `Address`, as its rank number `rank`, or of the sidecar at a socket's path.

    At a sidecar it is `rank` of `ranks` in `group`. When the sidecar ends, the inbox attaches to the successor
    automatically. `access` is how regions are mapped there: `private` (arrays may be written, and only this process
    sees it), `shared` (read-only; writing is a SIGSEGV) or `writable` (for memory that a device registers: do not
    write). A function means `writable`, and registers each region with a device; a region that it cannot register is
    mapped `private`.

    A sidecar that is starting may take `wait_s` until it listens.

    Only one thread may call it; arrays may be deleted in any thread. Raises OSError if an address cannot be reached,
    ValueError if it has no such rank, Lost if there is no sidecar, NotAttached if it refuses this rank.
    """

    def __init__(
        self,
        where: Address | str | os.PathLike[str],
        rank: int = 0,
        *,
        group: int = 0,
        ranks: int = 1,
        access: Access | Register = "private",
        wait_s: float = 0.0,
    ) -> None:
        self.rank = rank
        self._attachment: Attachment | None = None
        if isinstance(where, Address):
            self._windows = _at_address(where, rank)
        else:
            mapped: Access = "writable" if callable(access) else access
            hello = Hello(VERSION, "rank", group=group, rank=rank, ranks=ranks, access=mapped)
            register = access if callable(access) else None
            self._attachment = Attachment(where, hello, register=register, wait_s=wait_s)

    def open(self, leased: Leased) -> View:
        """The view of this record; the same memory if it is opened again during its life.

        Raises ValueError if the slot is not inside the region, StaleSlot if this rank has ended the lease or it belongs
        to an earlier life, and ForeignRegion if the record is of another plane.
        """
        windows, life = self._of(leased)
        if leased.plane != windows.plane:
            raise ForeignRegion("this record is of another plane")
        if leased.life not in (0, life):
            raise StaleSlot("this record was leased to another life of the group")
        return View(leased, windows.open(leased.lease, leased.item.slot))

    def statistics(self) -> dict[str, int]:
        """This rank's leases now, and how many have ended."""
        return (self._windows if self._attachment is None else self._attachment.plane.windows).statistics()

    def close(self) -> None:
        """Detach from a sidecar: now, or if arrays are alive, as soon as the last of them is gone."""
        if self._attachment is not None:
            self._attachment.close()

    def _of(self, leased: Leased) -> tuple[Windows, int]:
        """The plane of a record, and the life of this rank's group in it.

        The previous sidecar's plane stays open until the first record of its successor arrives. All ranks get messages
        in the same order, so all of them release it at the same message, and none fails where another does not.
        """
        if self._attachment is None:
            return self._windows, 0
        plane, former = self._attachment.plane, self._attachment.former
        if former is not None and leased.plane == former.windows.plane:
            plane = former
        elif former is not None and leased.plane == plane.windows.plane:
            self._attachment.former = None
        return plane.windows, plane.welcome.life


def _at_address(address: Address, rank: int) -> Windows:
    address.group_of(rank)
    tell_fd = address.open(address.tell_fd, os.O_WRONLY | os.O_NONBLOCK)

    def report(leases: Sequence[int]) -> None:
        for lease in leases:
            tell_nowait(tell_fd, lease, rank)

    windows = Windows(address.plane, report)
    finalize(windows, os.close, tell_fd).atexit = False  # the end of the process does this too
    region_fd = address.open_region(os.O_RDONLY)
    try:
        windows.map(REGION, region_fd, address.length_bytes, "private")
    finally:
        os.close(region_fd)
    tell_nowait(tell_fd, JOINED, rank)
    return windows


class View:
    """One item as this rank sees it. The lease ends when the view and all its arrays are gone."""

    def __init__(self, leased: Leased, window: Any) -> None:
        self.leased = leased
        self._window = window

    def arrays(self, library: Any, *, copy: bool = False) -> dict[str, Any]:
        """The item's arrays by name, in `library` (`torch` or `numpy`); writable, and private to this process.

        Raises ValueError if an array is not inside its slot, or the library lacks its dtype.
        """
        slot = self.leased.item.slot
        made = {
            tensor.name: array(library, tensor, self._window, slot.offset_bytes, slot.length_bytes)
            for tensor in self.leased.item.tensors
        }
        return {name: _copy(one) for name, one in made.items()} if copy else made


def _copy(values: Any) -> Any:
    return values.clone() if hasattr(values, "clone") else values.copy()
