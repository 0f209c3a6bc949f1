"""The HTTP face: OpenAI's routes, their errors, and what an operator asks.

Chat is written against ASGI itself rather than a framework's request object, for one reason: a client that goes away
must end its request at once, in every stage, and only a watch on `receive` beside the work sees that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmplane.config import Config
from mmplane.core.errors import RequestError, internal, overloaded, too_large, unavailable
from mmplane.core.keyring import Keyring
from mmplane.frontend.access import Access, tenant_of
from mmplane.frontend.admission import Budget, Reservation
from mmplane.frontend.bodies import Bodies, Body, ClientGone
from mmplane.frontend.chat import Answer, Chat
from mmplane.frontend.dispatch import Dispatch
from mmplane.frontend.guard import Guard
from mmplane.frontend.named import Named
from mmplane.frontend.readiness import Readiness
from mmplane.frontend.reply import JSON, Reply, error_object
from mmplane.frontend.schema import ChatRequest, parse_switch
from mmplane.frontend.shares import Shares
from mmplane.frontend.statistics import Counters
from mmplane.observe.journal import CLIENT_GONE, Journal
from mmplane.observe.journey import Journey
from mmplane.observe.metrics import CONTENT_TYPE, Figures, exposition
from mmplane.observe.page import HEADERS, PAGE
from mmplane.observe.timeline import timeline
from mmplane.process.delays import pause

log = logging.getLogger("mmplane")
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
BODY_FACTOR = 2
"""A body in memory and the media decoded from its base64: what a request may take before it reaches the arena."""


SMALL_BODY_BYTES = 4096


class ChatEndpoint:
    """POST /v1/chat/completions."""

    def __init__(
        self,
        *,
        chat: Chat,
        bodies: Bodies,
        budget: Budget,
        counters: Counters,
        journal: Journal,
        readiness: Readiness,
        closing: asyncio.Future[None],
        shares: Shares,
        config: Config,
    ) -> None:
        self._chat = chat
        self._bodies = bodies
        self._budget = budget
        self._counters = counters
        self._journal = journal
        self._readiness = readiness
        self._closing = closing
        self._shares = shares
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; ends early when the client does."""
        journey = self._journal.begin(scope["headers"])
        tenant = journey.tenant = tenant_of(scope)
        reply = Reply(send, journey.headers)
        status, code = CLIENT_GONE, ""
        try:
            if self._readiness.draining:
                raise unavailable("the server is shutting down", retry_after_s=5)
            if self._counters.now >= self._config.running_max + self._config.queue_max:
                raise overloaded("too many requests are in flight")  # before its body is read: a refusal is cheap
            length_bytes = self._length(scope)
            with self._shares.hold(tenant):
                reserved = await self._budget.admit(length_bytes * BODY_FACTOR, tenant)
                journey.enter("body")
                with reserved, self._counters.in_flight(), await self._bodies.read(receive, length_bytes) as body:
                    serving = self._serve(body, reply, reserved, tenant, journey)
                    status = await _unless_gone(receive, serving, self._closing)
        except RequestError as error:
            status, code = error.status, error.code
            await reply.error(error)
        except ClientGone:
            log.debug("a client went away")
        except MemoryError:
            log.error("no memory for a request")
            failure = overloaded("the server has no memory for this request now")
            status, code = failure.status, failure.code
            await reply.error(failure)
        except Exception:
            log.exception("a request failed by an error of ours")
            failure = internal("the server failed to handle this request")
            status, code = failure.status, failure.code
            await reply.error(failure)
        finally:
            self._counters.count(status)
            self._journal.end(journey, status, code)

    def _length(self, scope: Scope) -> int:
        """Bytes to reserve before the body is read: what the client declares, or the most that will be read."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        length = int(declared) if declared.isdigit() else self._config.body_bytes_max
        if length > self._config.body_bytes_max:
            raise too_large("the body is larger than this server takes")
        return length

    async def _serve(self, body: Body, reply: Reply, reserved: Reservation, tenant: str, journey: Journey) -> int:
        request, parked = await self._bodies.parse(body)
        journey.asked([part.modality for part in request.media])
        await pause(request.fault if self._config.fault_injection else None, "body")
        async with self._chat.answer(request, reserved.grow, parked, tenant=tenant, journey=journey) as answer:
            body.release()
            reserved.release()  # what goes inline has a reservation of its own
            head = _Head(request, answer, int(time.time()))
            if request.stream:
                await reply.start(200, EVENTS)
                async for event in _events(self._chat, answer, head):
                    await reply.chunk(b"data: " + event + b"\n\n")
                await reply.end()
            else:
                await reply.whole(200, JSON, await _complete(self._chat, answer, head))
        if answer.load.items:
            self._readiness.media_served()
        journey.prompt_tokens, journey.completion_tokens = len(answer.prompt.ids), answer.completion_tokens
        self._counters.tokens(len(answer.prompt.ids), answer.completion_tokens)
        return 200


class _Head:
    """The fields that every object of one completion repeats."""

    def __init__(self, request: ChatRequest, answer: Answer, created_s: int) -> None:
        self.id = f"chatcmpl-{answer.generation.request_id:x}"
        self.created_s = created_s
        self.model = request.model

    def object(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model, **fields}


async def _complete(chat: Chat, answer: Answer, head: _Head) -> bytes:
    samples = answer.request.n or 1
    texts = [""] * samples
    reasons = [""] * samples
    async for piece in chat.pieces(answer):
        texts[piece.sample] += piece.text
        reasons[piece.sample] = piece.reason or ""
    choices = [
        {
            "index": sample,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": reason,
            "logprobs": None,
        }
        for sample, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]
    whole = head.object("chat.completion", choices=choices, usage=answer.usage())
    return msgspec.json.encode(whole | _traced(answer))


async def _events(chat: Chat, answer: Answer, head: _Head) -> AsyncIterator[bytes]:
    """The stream's events, as OpenAI sends them: role first, then text, then a reason, then usage when asked."""
    kind = "chat.completion.chunk"

    def choice(sample: int, delta: dict[str, str], reason: str | None) -> bytes:
        parts = [{"index": sample, "delta": delta, "finish_reason": reason, "logprobs": None}]
        return msgspec.json.encode(head.object(kind, choices=parts))

    for sample in range(answer.request.n or 1):
        yield choice(sample, {"role": "assistant", "content": ""}, None)
    async for piece in chat.pieces(answer):
        if piece.text:
            yield choice(piece.sample, {"content": piece.text}, None)
        if piece.reason:
            yield choice(piece.sample, {}, piece.reason)
    traced = _traced(answer)
    options = answer.request.stream_options
    if traced or (options is not None and options.include_usage):
        usage = answer.usage() if options is not None and options.include_usage else None
        yield msgspec.json.encode(head.object(kind, choices=[], usage=usage) | traced)
    yield b"[DONE]"


def _traced(answer: Answer) -> dict[str, Any]:
    asked = answer.request.mmplane is not None and answer.request.mmplane.trace
    return {"mmplane": {"trace": answer.trace()}} if asked else {}


async def _small_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > SMALL_BODY_BYTES:
            raise too_large("the body is larger than this route takes")
    return body


async def _unless_gone(receive: Receive, work: Awaitable[int], closing: asyncio.Future[None]) -> int:
    """The work's result; when the client goes away first, or we do, the work is cancelled, in whatever stage it is."""

    async def gone() -> None:
        message: Message = {}
        while message.get("type") != "http.disconnect":
            message = await receive()

    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching, closing), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone if watching.done() else unavailable("the server is shutting down", retry_after_s=5)
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def build(
    *,
    chat: Chat,
    bodies: Bodies,
    dispatch: Dispatch,
    budget: Budget,
    counters: Counters,
    journal: Journal,
    readiness: Readiness,
    closing: asyncio.Future[None],
    shares: Shares,
    keyring: Keyring,
    config: Config,
    statistics: Callable[[], dict[str, Any]],
    figures: Callable[[], Figures],
) -> ASGIApp:
    """The application: every route of the server."""

    def respond(status: int, content: Any) -> Response:
        return Response(msgspec.json.encode(content), status, media_type="application/json")

    async def models(_: Request) -> Response:
        model = {"id": config.served_name, "object": "model", "created": 0, "owned_by": "mmplane"}
        return respond(200, {"object": "list", "data": [model]})

    async def health(_: Request) -> Response:
        return respond(200, {"status": "alive"})

    async def ready(_: Request) -> Response:
        why = await readiness.check()
        if why is None:
            return respond(200, {"status": "ready"})
        return Response(error_object(overloaded(why)), 503, {"retry-after": "1"}, "application/json")

    async def delivery(request: Request) -> Response:
        """Show the switch, or set it: new requests take it, what is in flight ends as it began."""
        if request.method == "PUT":
            try:
                switch = parse_switch(await _small_body(request))
                dispatch.put(switch.name, switch.share, switch.cache)
            except RequestError as error:
                return Response(error_object(error), error.status, media_type="application/json")
        return respond(200, dispatch.now())

    async def report(_: Request) -> Response:
        return respond(200, statistics())

    async def requests(_: Request) -> Response:
        """What the status page shows: everything now, and the last requests."""
        return respond(200, {"state": statistics(), "requests": [timeline(each) for each in journal.recent()]})

    async def page(_: Request) -> Response:
        return Response(PAGE, headers=HEADERS, media_type="text/html")

    async def scrape(_: Request) -> Response:
        return Response(await asyncio.to_thread(exposition, figures()), media_type=CONTENT_TYPE)

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        refusal = RequestError(error.status_code, code, str(error.detail))
        return Response(error_object(refusal), error.status_code, error.headers, "application/json")

    endpoint = ChatEndpoint(
        chat=chat,
        bodies=bodies,
        budget=budget,
        counters=counters,
        journal=journal,
        readiness=readiness,
        closing=closing,
        shares=shares,
        config=config,
    )
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/v1/chat/completions", endpoint, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", scrape),
            Route("/admin/delivery", delivery, methods=["GET", "PUT"]),
            Route("/admin/statistics", report),
            Route("/admin/requests", requests),
        ],
        exception_handlers={HTTPException: refuse},
    )
    if keyring:
        return Named(Guard(Access(app, keyring), None))
    return Named(Guard(app, (config.host, *config.allow_hosts)))
