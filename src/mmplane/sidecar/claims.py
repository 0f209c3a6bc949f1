"""What attached processes claim in the arena: slots that they write, items that they hold, leases of messages.

Nothing here waits. Every claim belongs to a process, and ends at the latest when its exit has been seen.
"""

from __future__ import annotations

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.shares import Shares
from mmplane.core.errors import ArenaHasNoRoom, RequestError, not_held, overloaded, unavailable
from mmplane.core.keys import digest_parts
from mmplane.core.records import Record
from mmplane.sidecar.groups import Groups
from mmplane.sidecar.records import (
    Abandon,
    Ended,
    Failed,
    Find,
    Holding,
    Lease,
    Leasing,
    Publish,
    Release,
    Reserve,
    Reserved,
    Revoke,
)
from mmplane.sidecar.session import Misuse, Session

LEASES_MAX = 65536
KEY_BYTES_MAX, TENSORS_MAX, SIDES_MAX = 64, 64, 16
"""Maximum length of what a producer publishes, so that it fits into every record that names it."""

Claiming = Find | Reserve | Publish | Lease
Returning = Abandon | Release | Revoke | Ended


class Claims:
    """Answers records that claim, and notes those that return. `owner` has leases whose group is not decided yet."""

    def __init__(self, arena: Arena, owner: Process, groups: Groups) -> None:
        self._arena = arena
        self._groups = groups
        self._shares = Shares(arena, owner)
        self._strays = 0

    def answer(self, session: Session, asked: Claiming) -> Record:
        """Return what was asked for, or Failed. Raises Misuse, ArenaError."""
        try:
            match asked:
                case Find():
                    return self._find(session, asked)
                case Reserve():
                    return self._reserve(session, asked)
                case Publish():
                    return self._publish(session, asked)
                case Lease():
                    return self._lease(session, asked)
        except ArenaFull as full:
            return Failed(asked.request, ArenaHasNoRoom(ever=full.ever).failure())
        except RequestError as error:
            return Failed(asked.request, error.failure())

    def note(self, session: Session, record: Returning) -> None:
        """End the claims that a record returns. Raises Misuse, ArenaError."""
        match record:
            case Abandon():
                self._arena.abandon(record.slot, session.process)
            case Release():
                for hold in record.holds:
                    session.let_go(self._arena, hold)
            case Revoke():
                self._strays += sum(not self._shares.revoke(lease) for lease in record.leases)
            case Ended():
                self._strays += sum(not self._end(lease, session) for lease in record.leases)

    def reaped(self, process: Process) -> None:
        """End all claims of a process that has exited, or has said goodbye."""
        self._shares.reaped(process)

    def statistics(self) -> dict[str, int]:
        """`leases` of messages now, and `strays`: ends of leases that were not open."""
        return {"leases": len(self._shares), "strays": self._strays}

    def _find(self, session: Session, asked: Find) -> Holding:
        item = self._arena.lookup(_put_key(asked.key)) or self._arena.lookup(asked.key)
        if item is None:
            raise not_held()
        return Holding(asked.request, session.hold(self._arena, item), item, hit=True)

    def _reserve(self, session: Session, asked: Reserve) -> Reserved:
        if not session.own:
            raise Misuse("this producer has not asked for a region")
        return Reserved(asked.request, self._arena.reserve(session.own, asked.length_bytes, session.process))

    def _publish(self, session: Session, asked: Publish) -> Holding:
        item = asked.item
        if len(item.content_key) > KEY_BYTES_MAX or len(item.tensors) > TENSORS_MAX:
            raise Misuse("a key or a list of arrays is too long")
        if any(len(tensor.shape) > SIDES_MAX for tensor in item.tensors):
            raise Misuse("an array has too many dimensions")
        self._arena.commit(item.slot, session.process)
        there = self._arena.publish(_put_key(item.content_key), item)
        hold = session.hold(self._arena, there.item)
        if not there.accepted:
            self._arena.discard(item.slot)
        return Holding(asked.request, hold, there.item, hit=not there.accepted)

    def _lease(self, session: Session, asked: Lease) -> Leasing:
        item = session.held(asked.hold)
        for group in range(asked.groups) if asked.groups else (asked.group,):
            life = self._groups.of(group, (item.slot.region,))
            if life is None:
                raise unavailable(f"not every rank of group {group} is attached")
        if len(self._shares) >= LEASES_MAX:
            raise overloaded("too many leases are open")
        lease = self._shares.lease(item.slot)
        if asked.groups:
            return Leasing(asked.request, lease, 0)
        assert life is not None
        self._shares.decide(lease, life.members.values())
        return Leasing(asked.request, lease, life.number)

    def _end(self, lease: int, session: Session) -> bool:
        """End this rank's share of a lease, which settles the message's group. Return False for an unknown lease."""
        if self._shares.is_undecided(lease) and session.life is not None:
            self._shares.decide(lease, session.life.members.values())
        return self._shares.end(lease, session.process)


def _put_key(key: bytes) -> bytes:
    """Return the index key for a producer's own key, which is never an item's content key."""
    return digest_parts([b"mmplane-put-1", key])
