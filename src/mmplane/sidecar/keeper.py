"""The keeper: attaches processes to one plane, hears them, and ends their claims with them.

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
from mmplane.arena.errors import ArenaError
from mmplane.arena.leases import Process
from mmplane.core.errors import UNPROFILED, UNPROFILED_REASONS, RequestError, internal, overloaded
from mmplane.sidecar.claims import Claiming, Claims, Returning
from mmplane.sidecar.door import Caller, Refusal
from mmplane.sidecar.groups import Groups, Misplaced
from mmplane.sidecar.maker import Maker
from mmplane.sidecar.peer import Peer
from mmplane.sidecar.records import (
    VERSION,
    Abandon,
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
    Mapped,
    Media,
    Obtain,
    Publish,
    RegionUp,
    Release,
    Report,
    Reserve,
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
        self._figures = figures
        self._groups = Groups()
        self._claims = Claims(arena, owner, self._groups)
        self._sessions: dict[int, Session] = {}
        self._places = [*range(SESSIONS_MAX - 1, -1, -1)]
        self._incarnations = count(1)
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
        self._claims.reaped(session.process)
        if session.own:
            self._regions.give_back(session.own)
        self._places.append(session.process.index)

    # Their records.

    def _heard(self, session: Session, record: ToKeeper, descriptors: list[int]) -> None:
        handle = MAY[session.hello.role].get(type(record))
        try:
            if handle is None:
                _close(descriptors)
                raise Misuse(f"a {session.hello.role} sends no {type(record).__name__}")
            handle(self, session, record, descriptors)
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
        _close(descriptors)
        if len(descriptors) != 1:
            raise Misuse("bytes must come with exactly one descriptor")

    def _report(self, session: Session, asked: Report, _: list[int]) -> None:
        session.check_new(asked.request)
        session.tell(Figures(asked.request, msgspec.json.encode(self.statistics())))

    def _claim(self, session: Session, asked: Claiming, _: list[int]) -> None:
        session.check_new(asked.request)
        session.tell(self._claims.answer(session, asked))

    def _return(self, session: Session, record: Returning, _: list[int]) -> None:
        self._claims.note(session, record)

    def _take(self, session: Session, asked: Working, descriptors: list[int]) -> None:
        """Begin with a request that takes a while."""
        given = None if isinstance(asked, Await) else _given(asked.media, descriptors)
        session.check_new(asked.request)
        if len(session.tasks) >= REQUESTS_MAX:
            refusal = overloaded(f"{REQUESTS_MAX} requests of this process are in flight already")
            session.tell(Failed(asked.request, refusal.failure()))
            return
        if given is not None:
            session.bytes_given[asked.request] = given
        task = asyncio.create_task(self._work(session, asked))
        session.tasks[asked.request] = task
        task.add_done_callback(lambda _: self._done(session, asked.request))

    def _done(self, session: Session, request: int) -> None:
        session.tasks.pop(request, None)
        session.bytes_given.pop(request, None)

    async def _work(self, session: Session, asked: Working) -> None:
        """Answer a request that takes a while."""
        try:
            match asked:
                case Obtain():
                    session.tell(await self._obtain(session, asked))
                case Describe():
                    session.tell(await self._describe(session, asked))
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

    def _forget(self, session: Session, record: Forget, _: list[int]) -> None:
        if task := session.tasks.get(record.request):
            task.cancel()

    def _mapped(self, session: Session, record: Mapped, _: list[int]) -> None:
        assert session.life is not None
        session.life.mapped[session.process].update(record.regions)
        self._changed.set_result(None)
        self._changed = asyncio.get_running_loop().create_future()

    def _bye(self, session: Session, _: Bye, __: list[int]) -> None:
        self._bury(session)

    async def _describe(self, session: Session, asked: Describe) -> Described:
        key, recipe = await self._maker.describe(session, asked.request, asked.media)
        return Described(asked.request, key, recipe.modality, recipe.layout)

    async def _obtain(self, session: Session, asked: Obtain) -> Holding:
        number = session.number()
        asset = await self._maker.obtain(session, asked.request, asked.media, number)
        session.holds[number] = asset.item
        return Holding(asked.request, number, asset.item, asset.hit)

    async def _await(self, asked: Await) -> Done:
        while self._groups.of(asked.group, range(len(self._regions.all))) is None:
            await asyncio.shield(self._changed)
        return Done(asked.request)

    def statistics(self) -> dict[str, Any]:
        """Sessions by role, how many are parted, leases, strays, and the statistics of the maker and the arena."""
        sessions = self._sessions.values()
        return {
            "sessions": Counter(session.hello.role for session in sessions),
            "parted": sum(session.parted for session in sessions),
            "holds": sum(len(session.holds) for session in sessions),
            "requests": sum(len(session.tasks) for session in sessions),
            "groups": len(self._groups),
            **self._claims.statistics(),
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


Working = Describe | Obtain | Await
MAY: dict[Role, dict[type, Callable[[Keeper, Session, Any, list[int]], None]]] = {
    "producer": {
        **dict.fromkeys((Describe, Obtain, Await), Keeper._take),
        **dict.fromkeys((Find, Reserve, Publish, Lease), Keeper._claim),
        **dict.fromkeys((Abandon, Release, Revoke), Keeper._return),
        Report: Keeper._report,
        Bytes: Keeper._take_bytes,
        Forget: Keeper._forget,
        Bye: Keeper._bye,
    },
    "rank": {Mapped: Keeper._mapped, Ended: Keeper._return, Report: Keeper._report, Bye: Keeper._bye},
    "janitor": {Revoke: Keeper._return, Report: Keeper._report, Bye: Keeper._bye},
}
"""Records that each role may send, and what handles them."""


def _given(media: Media, descriptors: list[int]) -> memoryview | None:
    """Return the bytes that came with a request. Raises Misuse."""
    try:
        if not descriptors:
            return None
        if len(descriptors) > 1:
            raise Misuse("at most one descriptor comes with a question about media")
        return mapped(descriptors[0], media.length_bytes)
    except OSError:  # there is no room for one more mapping, so the bytes are requested in their turn
        return None
    finally:
        _close(descriptors)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
