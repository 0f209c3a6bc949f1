"""POST /v1/chat/completions and /v1/completions: an answer in one piece, or as a stream's events."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from mmplane.frontend.chat.chat import Answer, Chat
from mmplane.frontend.chat.objects import CHAT, Form, Head
from mmplane.frontend.chat.readiness import Readiness
from mmplane.frontend.http.endpoint import Taken, Work
from mmplane.frontend.http.reply import JSON, Reply
from mmplane.observe.counters import Counters
from mmplane.observe.journey import Journey
from mmplane.waiting.share import Share

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Completions(Work):
    """Sends requests to the ranks. Each prompt after a request's first takes one more of its tenant's `seats`."""

    def __init__(
        self, chat: Chat, *, counters: Counters, readiness: Readiness, seats: Share, form: Form = CHAT
    ) -> None:
        self._chat = chat
        self._counters = counters
        self._readiness = readiness
        self._seats = seats
        self._form = form
        self.kind = form.kind

    async def __call__(self, taken: Taken, reply: Reply) -> int:
        """Answer with a stream or in one piece."""
        request, journey = taken.asked.request, taken.journey
        head = Head(self._form.prefix, journey.name, request.model, int(time.time()))
        async with AsyncExitStack() as stack:
            answers = await self._answers(taken, stack)
            answers[0].began = taken.began
            taken.body.release()
            taken.reserved.release()  # inline bytes have their own reservation
            if request.stream:
                await reply.start(200, EVENTS)
                async for event in self._form.events(self._chat, answers, head):
                    await reply.chunk(b"data: " + event + b"\n\n")
                await reply.end()
            else:
                await reply.whole(200, JSON, await self._form.whole(self._chat, answers, head))
        if answers[0].load.items:
            self._readiness.media_served()
        journey.prompt_tokens = sum(answer.prompt.length for answer in answers)
        journey.completion_tokens = sum(answer.completion_tokens for answer in answers)
        self._counters.tokens(journey.prompt_tokens, journey.completion_tokens)
        return 200

    async def _answers(self, taken: Taken, stack: AsyncExitStack) -> list[Answer]:
        """Run all prompts concurrently, with one answer each. The journey is the first prompt's."""
        tenant, answers = taken.journey.tenant, []
        first, *others = taken.asked.prompts() if taken.asked.request.answers_prompt else [taken.asked]
        for asked in (first, *others):
            journey = taken.journey if asked is first else Journey()
            if asked is not first:
                stack.enter_context(self._seats.seat(tenant))
            answering = self._chat.answer(asked, taken.reserved.grow, tenant=tenant, journey=journey)
            answers.append(await stack.enter_async_context(answering))
        return answers
