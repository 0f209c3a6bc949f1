"""Request bodies: short ones in this process's memory, long ones chunk by chunk into a slot and through the parser.

Parsing a long body here would hold up every other request for tens of milliseconds, in a thread too: JSON is parsed
under the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType
from typing import Any

from starlette.types import Receive

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.errors import RequestError, overloaded, too_large, unavailable
from mmplane.core.parsing import PARSED_BYTES_MAX, FromParser, Parse, Parsed, ParseFailed, ParserReady
from mmplane.core.records import Slot
from mmplane.frontend.request.schema import ChatRequest, parse
from mmplane.items.parked import Parked
from mmplane.items.shelf import FRONT_REGION
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

INLINE_BYTES_MAX = 1024 * 1024
"""A body is parsed here up to this length: about a millisecond."""
BODY_SECONDS = 60.0
"""How long a client may take to send its body, which holds a part of the budget from its first byte."""


class ClientGone(Exception):
    """Nobody reads the answer any more."""


class Body:
    """One request's body, until `release` or the end of the block."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.content = bytearray()
        self.slot: Slot | None = None
        self.length_bytes = 0

    def release(self) -> None:
        """The request's media lies elsewhere now, or is not wanted. Idempotent."""
        self.content = bytearray()
        slot, self.slot = self.slot, None
        if slot is not None:
            self._bodies._release(slot)

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Bodies:
    """Reads and parses bodies. One parser process at a time; while there is none, long bodies get 503."""

    def __init__(self, arena: Arena, region: RegionMapping, owner: Process, *, bytes_max: int) -> None:
        self._arena = arena
        self._region = region
        self._owner = owner
        self._bytes_max = bytes_max
        self._parser: Process | None = None
        self._mailbox: Mailbox | None = None
        self._ready = False
        self._jobs: dict[int, tuple[Slot, asyncio.Future[Parsed]]] = {}
        self._job_ids = itertools.count(1)
        self.parsed = 0
        self.ended = 0
        """Parsers that have died."""

    def add(self, incarnation: int, descriptor: int) -> None:
        """A parser was started; it takes bodies once it says so."""
        link: Link[FromParser] = Link(descriptor, FromParser)
        self._parser = Process("parser", 0, incarnation)
        self._mailbox = Mailbox(link, receive=lambda record, _: self._receive(record))
        self._ready = False

    def remove(self, incarnation: int) -> None:
        """The supervisor says that this parser is dead: what it was parsing fails, its claims end."""
        process = Process("parser", 0, incarnation)
        self.ended += 1
        if process == self._parser and self._mailbox is not None:
            self._mailbox.close()
            self._parser = self._mailbox = None
            self._ready = False
            for _, done in self._jobs.values():
                if not done.done():
                    done.set_exception(unavailable("the process that was parsing this request ended"))
            self._jobs.clear()
        self._arena.reaped(process)

    async def read(self, receive: Receive, declared_bytes: int) -> Body:
        """The whole body. Raises RequestError: 413 when it is too long, 408 when it does not come in time, 503."""
        body = Body(self)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                await self._read(body, receive, declared_bytes)
        except TimeoutError:
            body.release()
            raise RequestError(408, "body_timeout", "the body did not arrive in time") from None
        except BaseException:
            body.release()
            raise
        return body

    async def parse(self, body: Body) -> tuple[ChatRequest, tuple[Parked, ...]]:
        """The request in `body`, and its media that lies in the body's slot. Raises RequestError."""
        if body.slot is None:
            request = parse(body.content)
            body.content = bytearray()
            return request, ()
        slot = body.slot
        parsed = await self._ask(slot, body.length_bytes)
        self.parsed += 1
        rest = self._region.view(slot.offset_bytes + body.length_bytes, parsed.rest_bytes)
        return parse(bytes(rest)), tuple(self._parked(slot, place) for place in parsed.media)

    async def _read(self, body: Body, receive: Receive, declared_bytes: int) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            end_bytes = body.length_bytes + len(chunk)
            if end_bytes > min(declared_bytes, self._bytes_max):
                raise too_large("the body is larger than this server takes")
            if body.slot is None and end_bytes > INLINE_BYTES_MAX:
                self._move(body, declared_bytes)
            if body.slot is None:
                body.content += chunk
            else:
                self._region.view(body.slot.offset_bytes + body.length_bytes, len(chunk))[:] = chunk
            body.length_bytes = end_bytes
            more = message.get("more_body", False)

    def _move(self, body: Body, declared_bytes: int) -> None:
        """What came so far into a slot that has room for all of it and for what is left when it has been parsed."""
        try:
            slot = self._arena.reserve(FRONT_REGION, declared_bytes + PARSED_BYTES_MAX, self._owner)
        except ArenaFull as full:
            if full.ever:
                raise too_large("the body is larger than this server's arena takes") from None
            raise overloaded("the arena is full") from None
        # Committed at once: from here on the slot is a thing of leases, ours first.
        self._arena.commit(slot, self._owner)
        self._arena.lease(slot, self._owner, slot.generation)
        self._region.view(slot.offset_bytes, body.length_bytes)[:] = body.content
        body.slot, body.content = slot, bytearray()

    async def _ask(self, slot: Slot, body_bytes: int) -> Parsed:
        """Have it parsed. The parser's lease ends with its answer or its life, even when nobody waits any more."""
        if self._mailbox is None or self._parser is None or not self._ready:
            raise unavailable("long requests cannot be parsed now")
        job_id = next(self._job_ids)
        self._arena.lease(slot, self._parser, job_id)
        done: asyncio.Future[Parsed] = asyncio.get_running_loop().create_future()
        self._jobs[job_id] = slot, done
        if not self._mailbox.post(Parse(job_id, slot, body_bytes)):
            raise unavailable("long requests cannot be parsed now")  # its lease ends when it has been reaped
        return await done

    def _receive(self, record: FromParser) -> None:
        if isinstance(record, ParserReady):
            self._ready = True
            return
        assert self._parser is not None
        slot, done = self._jobs.pop(record.job_id)
        self._arena.release(slot, self._parser, record.job_id)
        if done.done():
            return  # its asker went away
        if isinstance(record, ParseFailed):
            done.set_exception(record.failure.error())
        else:
            done.set_result(record)

    def _parked(self, slot: Slot, place: Any) -> Parked:
        part = Slot(slot.region, slot.offset_bytes + place.offset_bytes, place.length_bytes, slot.generation)
        return Parked(slot, part, place.digest, self._region.view(part.offset_bytes, part.length_bytes).toreadonly())

    def _release(self, slot: Slot) -> None:
        self._arena.release(slot, self._owner, slot.generation)
