"""What machines with other ranks have of the arena: each slot that a request needs is sent to each of them once.

The books are `mmplane.arena.copies`. The bytes are sent by stand-ins (`mmplane.nodes.stand_in`), which are told here
what to send. Only the request waits: it is handed over once all machines have its slots, so no rank ever waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from mmplane.arena.arena import Arena
from mmplane.arena.copies import Copies
from mmplane.arena.errors import NotHeld
from mmplane.arena.leases import Process
from mmplane.arena.spans import spans
from mmplane.core.copies import Copy, Wrote
from mmplane.core.errors import unavailable
from mmplane.core.records import Item, Slot, Tensor
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox


class Mirrored:
    """The machines of one group. Without any, everything is everywhere."""

    def __init__(self, arena: Arena) -> None:
        self._copies = Copies(arena)
        self._machines: dict[Process, Mailbox] = {}
        self._changed: asyncio.Future[None] | None = None

    def connect(self, descriptors: Sequence[int]) -> None:
        """A group has started, whose other machines have nothing yet."""
        for descriptor in descriptors:
            process = self._copies.add()
            link: Link[Any] = Link(descriptor, Wrote)
            self._machines[process] = Mailbox(link, receive=partial(self._wrote, process))

    def gone(self) -> None:
        """The group has ended, on all machines."""
        for process, mailbox in self._machines.items():
            mailbox.close()
            self._copies.lost(process)
        self._machines.clear()
        self._wake()

    async def everywhere(self, items: Sequence[Item]) -> None:
        """Return when every machine has these items, which the caller has leased. Raises RequestError (503)."""
        machines = list(self._machines)
        for item in items:
            self._copies.want(item)
        self._send()
        while machines and not all(self._has(process, item.slot) for process in machines for item in items):
            self._changed = self._changed or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)

    def statistics(self) -> dict[str, int]:
        """As of `mmplane.arena.copies.Copies.statistics`."""
        return self._copies.statistics()

    def _has(self, process: Process, slot: Slot) -> bool:
        if process not in self._machines:
            raise unavailable("the ranks that were to serve this request ended")
        return self._copies.has(process, slot)

    def _send(self) -> None:
        for process, mailbox in self._machines.items():
            for item in self._copies.due(process):
                mailbox.post(Copy(item.slot, tuple(spans(item.tensors, item.slot.length_bytes))))

    def _wrote(self, process: Process, record: Wrote, _: list[int]) -> None:
        try:
            self._copies.wrote(process, record.generation)
        except NotHeld:  # an earlier front end has asked for it
            return
        self._send()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)


def plain(slot: Slot) -> Item:
    """Bytes without a form, as an item that can be copied."""
    return Item(b"", "image", slot, (Tensor("bytes", "uint8", (slot.length_bytes,), 0),))
