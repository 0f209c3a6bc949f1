"""Request bodies: quick ones are parsed and rendered here, all others by the parser.

    longer than INLINE_BYTES_MAX                    chunk by chunk into a slot, to the parser
    more than INLINE_QUOTES_MAX quotation marks     into a slot in its turn, to the parser
    a text completion beyond INLINE_TEXT_BYTES_MAX  the same: it may be a list of tokens, which has no quotation marks
    a prompt that is not short                      parsed here, then the same
    everything else: short texts with pictures      parsed and rendered here

Parsing or rendering a body here blocks all other requests, even in a thread, because both hold the interpreter's lock.
So the work done here takes about a millisecond at most, for any body.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.errors import overloaded, too_large
from mmplane.core.parsing import TOKEN_BYTES, Extent, Kind, Parsed, room_bytes
from mmplane.core.records import Record, Slot
from mmplane.frontend.body.schema import parse, quotes_in
from mmplane.frontend.request.parser_queue import ParserQueue
from mmplane.frontend.request.reading import Body, BodyReader, ParsedBody
from mmplane.frontend.request.renderer import Renderer, is_short
from mmplane.items.parked import Parked
from mmplane.items.shelf import FRONT_REGION
from mmplane.waiting.share import Share

INLINE_BYTES_MAX = 512 * 1024
INLINE_QUOTES_MAX = 512
INLINE_TEXT_BYTES_MAX = 16 * 1024


class Bodies(BodyReader):
    """Reads bodies in a server with an arena and a parser."""

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
        super().__init__(bytes_max)
        self._arena = arena
        self._region = region
        self._owner = owner
        self._renderer = renderer
        self._share_bytes = Share(arena.region_bytes(FRONT_REGION), tenants).each_max
        self.parser = ParserQueue(arena, tell_supervisor)

    async def parse(self, body: Body, kind: Kind = "chat") -> ParsedBody:
        """Return the request in `body`. Raises RequestError."""
        short = body.slot is None and (kind == "chat" or body.length_bytes <= INLINE_TEXT_BYTES_MAX)
        if short and (quotes := quotes_in(body.content)) <= INLINE_QUOTES_MAX:
            request = parse(body.content, kind=kind, quotes=quotes)
            if is_short(request):
                body.content = bytearray()
                return ParsedBody(request, self._renderer.render(request))
            self._renderer.check_length(request)
        slot_of = partial(self._slot_of, body)
        parsed = await self.parser.ask(slot_of, body.length_bytes, body.tenant, kind)
        return self._asked(slot_of(), parsed, kind)

    def _slot_of(self, body: Body) -> Slot:
        if body.slot is None:
            self._move(body, body.length_bytes)
        assert body.slot is not None
        return body.slot

    def _asked(self, slot: Slot, parsed: Parsed, kind: Kind) -> ParsedBody:
        start = slot.offset_bytes + parsed.rest_at_bytes
        rest = bytes(self._region.view(start, parsed.rest_bytes))
        ids = bytes(self._region.view(start + parsed.rest_bytes, parsed.prompt_tokens * TOKEN_BYTES))
        parked = tuple(self._parked(slot, extent) for extent in parsed.media)
        return ParsedBody(parse(rest, kind=kind), np.frombuffer(ids, np.int32), parked)

    def _keep(self, body: Body, chunk: bytes, held_bytes: int) -> None:
        if body.slot is None and body.length_bytes + len(chunk) <= INLINE_BYTES_MAX:
            body.content += chunk
            return
        if body.slot is None or body.slot.length_bytes < self._wanted_bytes(held_bytes):
            self._move(body, held_bytes)
        assert body.slot is not None
        self._region.view(body.slot.offset_bytes + body.length_bytes, len(chunk))[:] = chunk

    def _wanted_bytes(self, held_bytes: int) -> int:
        """Bytes of a slot for a body of this size, and for the remains of the parsed body."""
        return held_bytes + room_bytes(held_bytes, self._renderer.context_tokens)

    def _move(self, body: Body, held_bytes: int) -> None:
        """Copy what has arrived into a slot with room for the whole body."""
        wanted_bytes = self._wanted_bytes(held_bytes)
        if wanted_bytes > self._share_bytes:
            raise too_large("the body does not fit into this server's arena")
        if self._arena.held_bytes(body.tenant, (FRONT_REGION,)) + wanted_bytes > self._share_bytes:
            raise overloaded("this key's tenant has too many long bodies in flight")
        try:
            slot = self._arena.reserve(FRONT_REGION, wanted_bytes, self._owner, tenant=body.tenant)
        except ArenaFull:
            raise overloaded("the arena is full") from None
        # Committed at once: from here on the slot is kept by leases, the front end's first.
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
