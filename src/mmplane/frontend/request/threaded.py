"""Bodies without an arena and a parser: for a process that does nothing but render requests.

    more than INLINE_QUOTES_MAX quotation marks, or a prompt that is not short      parsed and rendered by the thread
    all else: short texts with pictures, however large these are                    parsed and rendered here

The thread does one body at a time, in turns of the tenants. A tokenizer lets go of the interpreter's lock, so that the
loop goes on meanwhile. Parsing and decoding base64 do not: they hold the loop for as long as one body takes, some 40 ms
for as many values as `QUOTES_MAX` allows, and as much for 64 MiB of base64. Other processes answer meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from mmplane.core.parsing import Kind
from mmplane.frontend.body.schema import ChatRequest, parse, quotes_in
from mmplane.frontend.request.reading import Body, BodyReader, ParsedBody
from mmplane.frontend.request.renderer import Renderer, is_short
from mmplane.waiting.fair_lock import FairLock

INLINE_QUOTES_MAX = 512


class ThreadedBodies(BodyReader):
    """Bodies in this process's own memory. `load` makes the thread a renderer: no two threads may share a tokenizer."""

    def __init__(self, renderer: Renderer, load: Callable[[], Renderer], *, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._renderer = renderer
        self._load = load
        self._thread = ThreadPoolExecutor(1, "render")
        self._turn = FairLock("too many long requests are waiting to be rendered")

    async def parse(self, body: Body, kind: Kind = "chat") -> ParsedBody:
        """The request in `body`. Raises RequestError."""
        assert kind == "chat", "nothing else is rendered here"
        content = body.content
        body.release()
        quotes = quotes_in(content)
        if quotes > INLINE_QUOTES_MAX:
            return await self._in_turn(body.tenant, lambda: self._rendered_long(parse(content, quotes=quotes)))
        request = parse(content, quotes=quotes)
        if is_short(request):
            return ParsedBody(request, self._renderer.render(request))
        self._renderer.check_length(request)
        return await self._in_turn(body.tenant, lambda: self._rendered_long(request))

    def _keep(self, body: Body, chunk: bytes, held_bytes: int) -> None:  # noqa: ARG002 - memory of ours grows
        body.content += chunk

    @cached_property
    def _renderer_of_thread(self) -> Renderer:
        return self._load()

    def _rendered_long(self, request: ChatRequest) -> ParsedBody:
        return ParsedBody(request, self._renderer_of_thread.render(request))

    async def _in_turn(self, tenant: str, work: Callable[[], ParsedBody]) -> ParsedBody:
        """What `work` returns or raises, done by the thread in this tenant's turn, even if nobody waits any more."""
        await self._turn.acquire(tenant)
        working = asyncio.get_running_loop().run_in_executor(self._thread, work)
        working.add_done_callback(self._done)
        return await asyncio.shield(working)

    def _done(self, work: asyncio.Future[ParsedBody]) -> None:
        work.exception()  # nobody may be left to ask for it
        self._turn.release()
