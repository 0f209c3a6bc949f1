"""The keeper: tracks the items and leases of one plane, and answers attached processes.

It is single-threaded, on an event loop. Every claim in the arena belongs to a session, so a process's exit ends
exactly its own claims. Nothing that a client sends can end the keeper: a forbidden record closes the client's session.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError, ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.shares import Shares
from mmplane.core.errors import (
    UNPROFILED,
    UNPROFILED_REASONS,
    ArenaHasNoRoom,
    RequestError,
    internal,
    not_held,
    overloaded,
    unavailable,
)
from mmplane.core.keys import digest_parts
from mmplane.core.records import Record
from mmplane.sidecar.door import Caller, Refusal
from mmplane.sidecar.groups import Groups, Misplaced
from mmplane.sidecar.maker import Maker
from mmplane.sidecar.peer import Peer
from mmplane.sidecar.records import (
    VERSION,
    Abandon,
    Asked,
    Await,
    Bye,
    Bytes,
    Describe,
    Described,
    Done,
    Ended,
    Failed,
    Figures,
    Find,
    Forget,
    Hello,
    Holding,
    Lease,
    Leasing,
    Mapped,
    Obtain,
    Publish,
    RegionUp,
    Release,
    Report,
    Reserve,
    Reserved,
    Revoke,
    Role,
    ToKeeper,
    Welcome,
)
from mmplane.sidecar.regions import Regions
from mmplane.sidecar.sealed import mapped
from mmplane.sidecar.session import Misuse, Session

log = logging.getLogger("mmplane")

SESSIONS_MAX = 256
REQUESTS_MAX = 256
"""Requests that one session may wait for."""
LEASES_MAX = 65536
KEY_BYTES_MAX, TENSORS_MAX, SIDES_MAX = 64, 64, 16
"""Maximum length of what a producer publishes, so that it fits into every record that names it."""

MAY: dict[Role, tuple[type, ...]] = {
    "producer": (
        *(Describe, Obtain, Find, Reserve, Publish, Lease, Await, Report),
        Bytes,
        Forget,
        Abandon,
        Release,
        Revoke,
        Bye,
    ),
    "rank": (Mapped, Ended, Report, Bye),
    "janitor": (Revoke, Report, Bye),
}
"""Records that each role may send."""


class Keeper:
    """Attaches sessions (`admit`), answers them, and ends them."""

    def __init__(
        self,
        arena: Arena,
        maker: Maker,
        regions: Regions,
        owner: Process,
        *,
        figures: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._arena = arena
        self._maker = maker
        self._regions = regions
        self._owner = owner
        self._figures = figures
        self._shares = Shares(arena, owner)
        self._groups = Groups()
        self._sessions: dict[int, Session] = {}
        self._places = [*range(SESSIONS_MAX - 1, -1, -1)]
        self._incarnations = count(1)
        self._tags = count(1)
        self._strays = 0
        self._unprofiled: Counter[str | None] = Counter(dict.fromkeys(UNPROFILED_REASONS, 0))
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Completes when the next rank has mapped a region."""

    # Attached processes.

    def admit(self, hello: Hello, peer: Peer, caller: Caller) -> None:
        """Attach a process. Raises Refusal."""
        if not self._places:
            os.close(peer.pidfd)
            raise Refusal(f"{SESSIONS_MAX} processes are attached already")
        process = Process(hello.role, self._places.pop(), next(self._incarnations))
        mailbox = caller.become(
            lambda record, descriptors: self._heard(session, record, descriptors), lambda: self._part(session)
        )
        session = Session(process, peer, hello, mailbox, self._part)
        try:
            welcome, descriptors = self._welcome(session)
        except (Refusal, Misplaced, RequestError) as refusal:
            os.close(peer.pidfd)
            self._places.append(process.index)
            raise Refusal(str(refusal)) from None
        self._sessions[process.index] = session
        asyncio.get_running_loop().add_reader(peer.pidfd, self._bury, session)
        session.tell(welcome, *descriptors)

    def _welcome(self, session: Session) -> tuple[Welcome, list[int]]:
        hello = session.hello
        if hello.fingerprint not in (b"", self._maker.fingerprint):
            raise Refusal(
                f"the sidecar's processors make different features: its fingerprint is "
                f"{self._maker.fingerprint.hex()}, the client's is {hello.fingerprint.hex()}"
            )
        welcome = Welcome(VERSION, self._regions.plane, self._maker.fingerprint)
        if hello.role == "janitor":
            return welcome, []
        if hello.role == "rank":
            session.life = self._groups.join(hello.group, hello.rank, hello.ranks, session.process)
        elif hello.region_bytes:
            session.own = self._lend(hello.region_bytes)
        writable = hello.role == "rank" and hello.access == "writable"
        descriptors = self._regions.descriptors(writable=writable)
        if session.own:
            descriptors[session.own] = self._regions.descriptor(session.own, writable=True)
        life = session.life.number if session.life else 0
        return msgspec.structs.replace(welcome, regions=self._regions.all, own=session.own, life=life), descriptors

    def _lend(self, region_bytes: int) -> int:
        known = len(self._regions.all)
        region = self._regions.lend(region_bytes)
        if region >= known:
            for session in self._sessions.values():
                if session.hello.role != "janitor" and not session.parted:
                    writable = session.hello.role == "rank" and session.hello.access == "writable"
                    session.tell(
                        RegionUp(self._regions.of(region)), self._regions.descriptor(region, writable=writable)
                    )
        return region

    def _part(self, session: Session) -> None:
        """Its socket is closed. It may still read and write: its claims stay until its exit has been seen."""
        session.parted = True
        session.hush()
        self._groups.left(session.process)
        if not session.own and not self._arena.has_claims(session.process):
            self._bury(session)

    def _bury(self, session: Session) -> None:
        """Its process has exited, or has said goodbye."""
        if self._sessions.get(session.process.index) is not session:
            return
        del self._sessions[session.process.index]
        asyncio.get_running_loop().remove_reader(session.peer.pidfd)
        session.close()
        self._groups.left(session.process)
        self._shares.reaped(session.process)
        if session.own:
            self._regions.give_back(session.own)
        self._places.append(session.process.index)

    # Their records.

    def _heard(self, session: Session, record: ToKeeper, descriptors: list[int]) -> None:
        try:
            if not isinstance(record, MAY[session.hello.role]):
                raise Misuse(f"a {session.hello.role} sends no {type(record).__name__}")
            if isinstance(record, Bytes):
                self._take_bytes(session, record, descriptors)
            elif isinstance(record, Asked):
                self._take(session, record, _given(record, descriptors))
            else:
                self._note(session, record)
        except (Misuse, ArenaError) as misuse:
            self._end_by_misuse(session, misuse)

    def _end_by_misuse(self, session: Session, misuse: Exception) -> None:
        log.warning("%s (pid %d) is disconnected: %s", session.line, session.peer.pid, misuse)
        self._part(session)

    def _take_bytes(self, session: Session, record: Bytes, descriptors: list[int]) -> None:
        coming = session.bytes_wanted.get(record.request)
        if coming is not None and not coming.done() and len(descriptors) == 1:
            coming.set_result(descriptors[0])
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if len(descriptors) != 1:
            raise Misuse("bytes must come with exactly one descriptor")

    def _take(self, session: Session, asked: Asked, given: memoryview | None) -> None:
        if asked.request in session.tasks:
            raise Misuse("a request's number is in use")
        if not isinstance(asked, Describe | Obtain | Await):
            session.tell(self._answer(session, asked))
        elif len(session.tasks) >= REQUESTS_MAX:
            refusal = overloaded(f"{REQUESTS_MAX} requests of this process are in flight already")
            session.tell(Failed(asked.request, refusal.failure()))
        else:
            if given is not None:
                session.bytes_given[asked.request] = given
            task = asyncio.create_task(self._work(session, asked))
            session.tasks[asked.request] = task
            task.add_done_callback(lambda _: self._done(session, asked.request))

    def _done(self, session: Session, request: int) -> None:
        session.tasks.pop(request, None)
        session.bytes_given.pop(request, None)

    async def _work(self, session: Session, asked: Describe | Obtain | Await) -> None:
        """Answer a request that takes a while."""
        try:
            match asked:
                case Describe():
                    session.tell(await self._describe(session, asked))
                case Obtain():
                    session.tell(await self._obtain(session, asked))
                case Await():
                    session.tell(await self._await(asked))
        except RequestError as error:
            if error.code == UNPROFILED:
                self._unprofiled[error.param] += 1
            session.tell(Failed(asked.request, error.failure()))
        except Misuse as misuse:
            self._end_by_misuse(session, misuse)
        except Exception:
            log.exception("a client's request failed because of an internal error")
            session.tell(Failed(asked.request, internal("the sidecar failed to handle this item").failure()))

    def _answer(self, session: Session, asked: Asked) -> Record:
        """Answer a request that does not have to wait."""
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
                case Report():
                    return Figures(asked.request, msgspec.json.encode(self.statistics()))
        except ArenaFull as full:
            return Failed(asked.request, ArenaHasNoRoom(ever=full.ever).failure())
        except RequestError as error:
            return Failed(asked.request, error.failure())
        raise AssertionError(asked)

    def _note(self, session: Session, record: ToKeeper) -> None:
        """Handle a record that has no answer."""
        match record:
            case Forget():
                if task := session.tasks.get(record.request):
                    task.cancel()
            case Abandon():
                self._arena.abandon(record.slot, session.process)
            case Release():
                for hold in record.holds:
                    session.let_go(self._arena, hold)
            case Revoke():
                self._strays += sum(not self._shares.revoke(lease) for lease in record.leases)
            case Ended():
                self._strays += sum(not self._end(lease, session) for lease in record.leases)
            case Mapped():
                session.mapped.update(record.regions)
                self._changed.set_result(None)
                self._changed = asyncio.get_running_loop().create_future()
            case Bye():
                self._bury(session)

    async def _describe(self, session: Session, asked: Describe) -> Described:
        key, recipe = await self._maker.describe(session, asked.request, asked.media)
        return Described(asked.request, key, recipe.modality, recipe.layout)

    async def _obtain(self, session: Session, asked: Obtain) -> Holding:
        tag = next(self._tags)
        asset = await self._maker.obtain(session, asked.request, asked.media, tag)
        try:
            return Holding(asked.request, session.hold(self._arena, asset.item), asset.item, asset.hit)
        finally:
            self._maker.release(asset.item, tag)

    async def _await(self, asked: Await) -> Done:
        while not self._is_joined(asked.group, range(len(self._regions.all))):
            await asyncio.shield(self._changed)
        return Done(asked.request)

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
            if not self._is_joined(group, (item.slot.region,)):
                raise unavailable(f"not every rank of group {group} is attached")
        if len(self._shares) >= LEASES_MAX:
            raise overloaded("too many leases are open")
        lease = self._shares.lease(item.slot)
        if asked.groups:
            return Leasing(asked.request, lease, 0)
        life = self._groups.of(asked.group)
        assert life is not None
        self._shares.decide(lease, life.members.values())
        return Leasing(asked.request, lease, life.number)

    def _end(self, lease: int, session: Session) -> bool:
        """End this rank's share of a lease, which settles the message's group. Return False for an unknown lease."""
        if self._shares.is_undecided(lease) and session.life is not None:
            self._shares.decide(lease, session.life.members.values())
        return self._shares.end(lease, session.process)

    def _is_joined(self, group: int, regions: Any) -> bool:
        life = self._groups.of(group)
        return life is not None and all(
            self._sessions[member.index].mapped.issuperset(regions) for member in life.members.values()
        )

    def statistics(self) -> dict[str, Any]:
        """Sessions by role, how many are parted, leases, strays, and the statistics of the maker and the arena."""
        sessions = self._sessions.values()
        return {
            "sessions": Counter(session.hello.role for session in sessions),
            "parted": sum(session.parted for session in sessions),
            "holds": sum(len(session.holds) for session in sessions),
            "requests": sum(len(session.tasks) for session in sessions),
            "leases": len(self._shares),
            "groups": len(self._groups),
            "strays": self._strays,
            "unprofiled": self._unprofiled,
            "arena": msgspec.to_builtins(self._arena.statistics()),
            **self._maker.statistics(),
            **self._figures(),
        }

    def close(self) -> None:
        """End all sessions."""
        for session in list(self._sessions.values()):
            self._bury(session)

    def check_integrity(self) -> None:
        """Assert that sessions and arena are consistent."""
        self._arena.check_integrity()
        for session in self._sessions.values():
            for item in session.holds.values():
                assert self._arena.is_held(item.slot)


def _put_key(key: bytes) -> bytes:
    """Return the index key for a producer's own key, which is never an item's content key."""
    return digest_parts([b"mmplane-put-1", key])


def _given(asked: Asked, descriptors: list[int]) -> memoryview | None:
    """Return the bytes that came with a request. Raises Misuse."""
    try:
        if not descriptors:
            return None
        if len(descriptors) > 1 or not isinstance(asked, Describe | Obtain):
            raise Misuse("one descriptor comes with a question about media, and none with any other")
        return mapped(descriptors[0], asked.media.length_bytes)
    except OSError:  # there is no room for one more mapping, so the bytes are requested in their turn
        return None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
