"""A session: one attached process, what it has asked for and what it holds.

Its claims are those of the process behind the socket. They end when that process has exited, or has said goodbye; a
closed socket alone only means that nothing more will be heard (a process that was forked may keep a copy of it, and a
mapping may outlive it). Until the exit is seen the session is *parted*, and what it holds is quarantined.
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


class Misuse(Exception):
    """A record that no correct client sends, in the state in which it is: the session is closed."""


@dataclass
class Session:
    """`process` is the claimant in the arena's books; `own` the region that it writes, 0 if it has none.

    `part` is called when it does not read.
    """

    process: Process
    peer: Peer
    hello: Hello
    mailbox: Mailbox
    part: Callable[[Session], None]
    own: int = 0
    life: Life | None = None
    parted: bool = False
    mapped: set[int] = field(default_factory=set)
    """Regions that a rank has mapped."""
    holds: dict[int, Item] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """What it has asked for and waits for, by request."""
    bytes_wanted: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    """Requests whose media was asked for: a descriptor comes."""
    bytes_given: dict[int, memoryview] = field(default_factory=dict)
    """Media that came along with its request."""
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def line(self) -> str:
        """The name of its line wherever clients wait in turns."""
        return f"{self.hello.role} {self.process.index}"

    def tell(self, record: Record, *descriptors: int) -> None:
        """Send it a record; whoever does not read for very long is cut off."""
        if not self.mailbox.post(record, descriptors):
            self.part(self)

    def hold(self, arena: Arena, item: Item) -> int:
        """Claim an item for this process; the number of the hold. Raises StaleSlot, DeadProcess."""
        number = next(self._numbers)
        arena.lease(item.slot, self.process, -number)
        self.holds[number] = item
        return number

    def held(self, number: int) -> Item:
        """The item of a hold. Raises Misuse."""
        item = self.holds.get(number)
        if item is None:
            raise Misuse(f"there is no hold {number}")
        return item

    def let_go(self, arena: Arena, number: int) -> None:
        """End a hold. Raises Misuse."""
        item = self.held(number)
        del self.holds[number]
        arena.release(item.slot, self.process, -number)

    def hush(self) -> None:
        """Nothing is heard of it any more: what it waits for is called off."""
        self.mailbox.close()
        for task in list(self.tasks.values()):
            task.cancel()

    def close(self) -> None:
        """Its process has exited, or has said goodbye."""
        self.hush()
        os.close(self.peer.pidfd)
