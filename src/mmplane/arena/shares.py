"""The leases of messages. A message goes to a group of readers, and each of them has a share of its lease. Pure.

A lease has a number, which travels in the message. It ends when each reader has ended its share or has died, or when it
is revoked because the message was never sent. All shares are claims in the arena's bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.records import Slot


@dataclass
class _Lease:
    slot: Slot
    decided: bool = False
    waiting: set[Process] = field(default_factory=set)


class Shares:
    """Open leases by number. `owner` claims an undecided one, whose readers are not known yet."""

    def __init__(self, arena: Arena, owner: Process) -> None:
        self._arena = arena
        self._owner = owner
        self._leases: dict[int, _Lease] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._leases)

    def lease(self, slot: Slot) -> int:
        """Create a lease, undecided, and return its number. Raises StaleSlot."""
        number, self._next = self._next, self._next + 1
        self._arena.lease(slot, self._owner, number)
        self._leases[number] = _Lease(slot)
        return number

    def is_undecided(self, number: int) -> bool:
        """Whether this lease exists and its readers are not known yet."""
        lease = self._leases.get(number)
        return lease is not None and not lease.decided

    def decide(self, number: int, readers: Iterable[Process]) -> None:
        """From now on the lease belongs to these readers, and no longer to the owner."""
        lease = self._leases[number]
        assert not lease.decided
        lease.decided = True
        for reader in readers:
            lease.waiting.add(reader)
            self._arena.lease(lease.slot, reader, number)
        self._arena.release(lease.slot, self._owner, number)
        self._tidy(number, lease)

    def end(self, number: int, reader: Process) -> bool:
        """This reader has ended its share; False if it has none."""
        lease = self._leases.get(number)
        if lease is None or reader not in lease.waiting:
            return False
        lease.waiting.remove(reader)
        self._arena.release(lease.slot, reader, number)
        self._tidy(number, lease)
        return True

    def revoke(self, number: int) -> bool:
        """The message was never sent, or never arrived, so nobody will end the lease; False if there is none."""
        lease = self._leases.pop(number, None)
        if lease is None:
            return False
        for reader in lease.waiting:
            self._arena.release(lease.slot, reader, number)
        if not lease.decided:
            self._arena.release(lease.slot, self._owner, number)
        return True

    def reaped(self, reader: Process) -> None:
        """This reader is dead, as its pidfd has confirmed: its shares end, and its other claims in the arena."""
        self._arena.reaped(reader)
        for number, lease in list(self._leases.items()):
            lease.waiting.discard(reader)
            self._tidy(number, lease)

    def _tidy(self, number: int, lease: _Lease) -> None:
        if lease.decided and not lease.waiting:
            del self._leases[number]
