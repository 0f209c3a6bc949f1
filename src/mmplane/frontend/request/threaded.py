"""Reads bodies without an arena and a parser, for a process that only renders requests.

    more than INLINE_QUOTES_MAX quotation marks, or a prompt that is not short      parsed and rendered by the thread
    everything else: short texts with pictures of any size                          parsed and rendered here

The thread handles one body at a time, and tenants take turns. A tokenizer releases the interpreter's lock, so the loop
continues. Parsing and decoding base64 do not: they block the loop for the duration of one body, some 40 ms
for as many values as `QUOTES_MAX` allows, and the same for 64 MiB of base64. Other processes answer in the meantime.
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
    """Reads bodies in this process's memory. `load` creates the thread's own renderer: tokenizers are not shared."""

    def __init__(self, renderer: Renderer, load: Callable[[], Renderer], *, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._renderer = renderer
        self._load = load
        self._thread = ThreadPoolExecutor(1, "render")
        self._turn = FairLock("too many long requests are waiting to be rendered")

    async def parse(self, body: Body, kind: Kind = "chat") -> ParsedBody:
        """Return the request in `body`. Raises RequestError."""
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
        """Run `work` in the thread in this tenant's turn, even if nobody waits any more. Return its result."""
        await self._turn.acquire(tenant)
        working = asyncio.get_running_loop().run_in_executor(self._thread, work)
        working.add_done_callback(self._done)
        return await asyncio.shield(working)

    def _done(self, work: asyncio.Future[ParsedBody]) -> None:
        work.exception()  # the caller may be gone
        self._turn.release()
