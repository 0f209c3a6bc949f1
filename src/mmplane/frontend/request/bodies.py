"""Request bodies: what is quick is parsed and rendered here, the rest by the parser.

    longer than INLINE_BYTES_MAX                    chunk by chunk into a slot, to the parser
    more than INLINE_QUOTES_MAX quotation marks     into a slot when its turn has come, to the parser
    a prompt that is not short                      parsed here, then the same
    all else: short texts with pictures             parsed and rendered here

Parsing or rendering anything here holds up every other request meanwhile, in a thread too: both keep the interpreter's
lock. So what is done here takes about a millisecond at most, whatever a body says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np
from starlette.types import Receive

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.errors import overloaded, too_large
from mmplane.core.parsing import TOKEN_BYTES, Extent, Parsed, room_bytes
from mmplane.core.records import Record, Slot
from mmplane.frontend.request.parser_queue import ParserQueue
from mmplane.frontend.request.renderer import Ids, Renderer, is_short
from mmplane.frontend.request.schema import ChatRequest, parse, quotes_in
from mmplane.items.parked import Parked
from mmplane.items.shelf import FRONT_REGION
from mmplane.waiting.share import Share

INLINE_BYTES_MAX = 512 * 1024
INLINE_QUOTES_MAX = 512


class ClientGone(Exception):
    """Nobody reads the answer any more."""


@dataclass(frozen=True)
class ParsedBody:
    """A request out of its body, its prompt's ids before expansion, and its media that lies in the body's slot."""

    request: ChatRequest
    ids: Ids
    parked: tuple[Parked, ...] = ()


class Body:
    """One request's body, until `release` or the end of the block."""

    def __init__(self, bodies: Bodies, tenant: str) -> None:
        self._bodies = bodies
        self.tenant = tenant
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
    """Reads bodies and makes requests of them."""

    def __init__(
        self,
        arena: Arena,
        region: RegionMapping,
        owner: Process,
        *,
        renderer: Renderer,
        bytes_max: int,
        tell_supervisor: Callable[[Record], object],
        tenants: int = 0,
    ) -> None:
        self._arena = arena
        self._region = region
        self._owner = owner
        self._renderer = renderer
        self._bytes_max = bytes_max
        self._share_bytes = Share(arena.region_bytes(FRONT_REGION), tenants).each_max
        self.parser = ParserQueue(arena, tell_supervisor)

    async def read(
        self, receive: Receive, held_bytes: int, *, tenant: str = "", grow: Callable[[int], None] | None = None
    ) -> Body:
        """The whole body, of at most `held_bytes` unless it may `grow`, which is asked for as many again each time.

        Raises RequestError: 413 when it is too long, 503, and what `receive` and `grow` raise.
        """
        body = Body(self, tenant)
        try:
            await self._read(body, receive, held_bytes, grow)
        except BaseException:
            body.release()
            raise
        return body

    async def parse(self, body: Body) -> ParsedBody:
        """The request in `body`. Raises RequestError."""
        if body.slot is None and quotes_in(body.content) <= INLINE_QUOTES_MAX:
            request = parse(body.content)
            if is_short(request):
                body.content = bytearray()
                return ParsedBody(request, self._renderer.render(request))
            self._renderer.check_length(request)
        slot_of = partial(self._slot_of, body)
        parsed = await self.parser.ask(slot_of, body.length_bytes, body.tenant)
        return self._asked(slot_of(), parsed)

    def _slot_of(self, body: Body) -> Slot:
        if body.slot is None:
            self._move(body, body.length_bytes)
        assert body.slot is not None
        return body.slot

    def _asked(self, slot: Slot, parsed: Parsed) -> ParsedBody:
        start = slot.offset_bytes + parsed.rest_at_bytes
        rest = bytes(self._region.view(start, parsed.rest_bytes))
        ids = bytes(self._region.view(start + parsed.rest_bytes, parsed.prompt_tokens * TOKEN_BYTES))
        parked = tuple(self._parked(slot, extent) for extent in parsed.media)
        return ParsedBody(parse(rest), np.frombuffer(ids, np.int32), parked)

    async def _read(self, body: Body, receive: Receive, held_bytes: int, grow: Callable[[int], None] | None) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            end_bytes = body.length_bytes + len(chunk)
            if end_bytes > (self._bytes_max if grow else min(held_bytes, self._bytes_max)):
                raise too_large("the body is larger than this server takes")
            if grow and end_bytes > held_bytes:
                grown_bytes = min(max(2 * held_bytes, end_bytes), self._bytes_max)
                grow(grown_bytes - held_bytes)
                held_bytes = grown_bytes
                if body.slot is not None:
                    self._move(body, held_bytes)
            if body.slot is None and end_bytes > INLINE_BYTES_MAX:
                self._move(body, held_bytes)
            if body.slot is None:
                body.content += chunk
            else:
                self._region.view(body.slot.offset_bytes + body.length_bytes, len(chunk))[:] = chunk
            body.length_bytes = end_bytes
            more = message.get("more_body", False)

    def _move(self, body: Body, held_bytes: int) -> None:
        """What came so far into a slot that has room for so much and for what is left when it has been parsed."""
        wanted_bytes = held_bytes + room_bytes(held_bytes, self._renderer.context_tokens)
        if wanted_bytes > self._share_bytes:
            raise too_large("the body is larger than this server's arena takes")
        if self._arena.held_bytes(body.tenant, (FRONT_REGION,)) + wanted_bytes > self._share_bytes:
            raise overloaded("this key's tenant has too many long bodies under way")
        try:
            slot = self._arena.reserve(FRONT_REGION, wanted_bytes, self._owner, tenant=body.tenant)
        except ArenaFull:
            raise overloaded("the arena is full") from None
        # Committed at once: from here on the slot is a thing of leases, ours first.
        self._arena.commit(slot, self._owner)
        self._arena.lease(slot, self._owner, slot.generation)
        before = body.slot
        kept = body.content if before is None else self._region.view(before.offset_bytes, body.length_bytes)
        self._region.view(slot.offset_bytes, body.length_bytes)[:] = kept
        body.release()
        body.slot = slot

    def _parked(self, slot: Slot, place: Extent) -> Parked:
        part = Slot(slot.region, slot.offset_bytes + place.offset_bytes, place.length_bytes, slot.generation)
        return Parked(slot, part, place.digest, self._region.view(part.offset_bytes, part.length_bytes).toreadonly())

    def _release(self, slot: Slot) -> None:
        self._arena.release(slot, self._owner, slot.generation)
