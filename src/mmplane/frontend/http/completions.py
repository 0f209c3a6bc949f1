"""POST /v1/chat/completions: an answer in one piece, or as a stream's events."""

from __future__ import annotations

import time

from mmplane.frontend.chat.chat import Chat
from mmplane.frontend.chat.objects import Head, events, whole
from mmplane.frontend.chat.readiness import Readiness
from mmplane.frontend.http.endpoint import Taken, Work
from mmplane.frontend.http.reply import JSON, Reply
from mmplane.observe.counters import Counters

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Completions(Work):
    """Has the ranks answer."""

    def __init__(self, chat: Chat, *, counters: Counters, readiness: Readiness) -> None:
        self._chat = chat
        self._counters = counters
        self._readiness = readiness

    async def __call__(self, taken: Taken, reply: Reply) -> int:
        """As text comes, or when all of it has come."""
        request, journey = taken.asked.request, taken.journey
        async with self._chat.answer(
            taken.asked, taken.reserved.grow, tenant=journey.tenant, journey=journey
        ) as answer:
            answer.began = taken.began
            taken.body.release()
            taken.reserved.release()  # what goes inline has a reservation of its own
            head = Head(request, answer, int(time.time()))
            if request.stream:
                await reply.start(200, EVENTS)
                async for event in events(self._chat, answer, head):
                    await reply.chunk(b"data: " + event + b"\n\n")
                await reply.end()
            else:
                await reply.whole(200, JSON, await whole(self._chat, answer, head))
        if answer.load.items:
            self._readiness.media_served()
        journey.prompt_tokens, journey.completion_tokens = answer.prompt.length, answer.completion_tokens
        self._counters.tokens(answer.prompt.length, answer.completion_tokens)
        return 200
