"""A session: one attached process with its requests and claims.

Its claims are those of the process behind the socket. They end when that process has exited or has said goodbye. A
closed socket only means that no more records will come, because a forked process may keep a copy of it, and a mapping
may outlive it. Until the exit is seen, the session is *parted*, and its claims are quarantined.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.records import Item, Record
from mmplane.sidecar.groups import Life
from mmplane.sidecar.peer import Peer
from mmplane.sidecar.records import Hello
from mmplane.wire.mailbox import Mailbox


def hold_tag(number: int) -> int:
    """The tag of a hold's lease, which is no message's."""
    return -number


class Misuse(Exception):
    """A record that a correct client never sends in this state: the session is closed."""


@dataclass
class Session:
    """`process` is the claimant in the arena; `own` is the region that it writes, 0 if it has none.

    `part` is called if it does not read.
    """

    process: Process
    peer: Peer
    hello: Hello
    mailbox: Mailbox
    part: Callable[[Session], None]
    own: int = 0
    life: Life | None = None
    parted: bool = False
    holds: dict[int, Item] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """Requests that it waits for."""
    bytes_wanted: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    """Requests whose media was requested: a descriptor will come."""
    bytes_given: dict[int, memoryview] = field(default_factory=dict)
    """Media that came with its request."""
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def line(self) -> str:
        """The name of its line wherever clients take turns."""
        return f"{self.hello.role} {self.process.index}"

    def tell(self, record: Record, *descriptors: int) -> None:
        """Send it a record; a client that does not read for very long is disconnected."""
        if not self.mailbox.post(record, descriptors):
            self.part(self)

    def check_new(self, request: int) -> None:
        """Raise Misuse if it waits for a request with this number."""
        if request in self.tasks:
            raise Misuse("a request's number is in use")

    def number(self) -> int:
        """The number of its next hold."""
        return next(self._numbers)

    def hold(self, arena: Arena, item: Item) -> int:
        """Claim an item for this process and return the number of the hold. Raises StaleSlot, DeadProcess."""
        number = self.number()
        arena.lease(item.slot, self.process, hold_tag(number))
        self.holds[number] = item
        return number

    def held(self, number: int) -> Item:
        """Return the item of a hold. Raises Misuse."""
        item = self.holds.get(number)
        if item is None:
            raise Misuse(f"there is no hold {number}")
        return item

    def let_go(self, arena: Arena, number: int) -> None:
        """End a hold. Raises Misuse."""
        item = self.held(number)
        del self.holds[number]
        arena.release(item.slot, self.process, hold_tag(number))

    def hush(self) -> None:
        """No more records will come from it: cancel the requests that it waits for."""
        self.mailbox.close()
        for task in list(self.tasks.values()):
            task.cancel()

    def close(self) -> None:
        """Its process has exited, or has said goodbye."""
        self.hush()
        os.close(self.peer.pidfd)
