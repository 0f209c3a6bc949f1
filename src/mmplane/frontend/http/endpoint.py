"""An endpoint: reads one request, has it processed within all limits, and records the result.

It is written directly against ASGI and not against a framework's request object, because a client that disconnects must
end its request at once, in every stage. Only a task that watches `receive` beside the work can detect that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from starlette.types import Message, Receive, Scope, Send

from mmplane.config import Config
from mmplane.core.errors import RequestError, internal, overloaded, too_large, unavailable
from mmplane.core.parsing import Kind
from mmplane.frontend.http.access import tenant_of
from mmplane.frontend.http.reply import Reply
from mmplane.frontend.http.request_id import id_of
from mmplane.frontend.request.reading import Body, BodyReader, ClientGone, ParsedBody
from mmplane.observe.counters import Counters
from mmplane.observe.journal import CLIENT_GONE
from mmplane.observe.journey import Journey
from mmplane.waiting.budget import Budget, Reservation
from mmplane.waiting.share import Share

log = logging.getLogger("mmplane")

FIRST_BYTES = 256 * 1024
"""Bytes reserved for a body of unknown length; doubled as the body arrives."""
BODY_FACTOR = 2
"""A body in memory and the media decoded from its base64: the memory of a request before its items are in the arena."""


@dataclass(frozen=True)
class Taken:
    """An accepted request and its reservations. `began` is called when the answer starts, and ends its deadline."""

    asked: ParsedBody
    body: Body
    reserved: Reservation
    journey: Journey
    began: Callable[[], None]


class Work(Protocol):
    """Processes requests of one `kind` for an endpoint."""

    kind: Kind

    async def __call__(self, taken: Taken, reply: Reply) -> int:
        """Answer the request and return the status. Raises RequestError before anything is sent."""


class Journal(Protocol):
    """Where requests are recorded: `mmplane.observe.journal.Journal`, or a smaller implementation."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Journey:
        """A request with these headers has arrived."""

    def end(self, journey: Journey, status: int, code: str) -> None:
        """It has ended with this status and error code."""


class Standing(Protocol):
    """The state of this process."""

    @property
    def draining(self) -> bool:
        """Whether it accepts no new requests."""


class Endpoint:
    """Accepts requests, has them answered, and records both."""

    def __init__(
        self,
        work: Work,
        *,
        bodies: BodyReader,
        budget: Budget,
        counters: Counters,
        journal: Journal,
        standing: Standing,
        closing: asyncio.Future[None],
        seats: Share,
        config: Config,
    ) -> None:
        self._work = work
        self._bodies = bodies
        self._budget = budget
        self._counters = counters
        self._journal = journal
        self._standing = standing
        self._closing = closing
        self._seats = seats
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; ends early if the client disconnects."""
        journey = self._journal.begin(scope["headers"])
        journey.tenant, journey.name = tenant_of(scope), id_of(scope)
        reply = Reply(send, journey.headers)
        status, code = CLIENT_GONE, ""
        try:
            if self._standing.draining:
                raise unavailable("the server is shutting down", retry_after_s=5)
            if self._counters.now >= self._config.running_max + self._config.queue_max:
                raise overloaded("too many requests are in flight")  # before its body is read: refusing is cheap
            length_bytes, is_known = self._length(scope)
            async with _until_it_begins(self._config.request_seconds) as began:
                with self._seats.seat(journey.tenant):
                    reserved = await self._budget.admit(length_bytes * BODY_FACTOR, journey.tenant)
                    journey.enter("body")
                    grow = None if is_known else lambda more_bytes: reserved.grow(more_bytes * BODY_FACTOR)
                    reading = self._bodies.read(receive, length_bytes, tenant=journey.tenant, grow=grow)
                    with reserved, self._counters.in_flight(), await reading as body:
                        serving = self._serve(body, reply, reserved, journey, began)
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
            log.exception("a request failed because of an internal error")
            failure = internal("the server failed to handle this request")
            status, code = failure.status, failure.code
            await reply.error(failure)
        finally:
            self._counters.count(status)
            self._journal.end(journey, status, code)
            _note(scope, journey, status)

    def _length(self, scope: Scope) -> tuple[int, bool]:
        """Return the bytes to reserve before the body is read, and whether that is all, as the client declares."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if not declared.isdigit():
            return min(FIRST_BYTES, self._config.body_bytes_max), False
        if int(declared) > self._config.body_bytes_max:
            raise too_large("the body exceeds this server's limit")
        return int(declared), True

    async def _serve(
        self, body: Body, reply: Reply, reserved: Reservation, journey: Journey, began: Callable[[], None]
    ) -> int:
        asked = await self._bodies.parse(body, self._work.kind)
        journey.asked([part.modality for part in asked.request.media])
        return await self._work(Taken(asked, body, reserved, journey, began), reply)


class Endpoints(NamedTuple):
    """The endpoints of a server: chats, rendering for routers, and text completions."""

    chat: Endpoint
    render: Endpoint
    text: Endpoint


def _note(scope: Scope, journey: Journey, status: int) -> None:
    """Write the access log's line of a request."""
    took_ms = (time.perf_counter() - journey.began_s) * 1000
    first_ms = max(0.0, journey.first_token_s - journey.began_s) * 1000
    log.info(
        "%s %s %d in %.1f ms, first token after %.1f ms; items %d, prompt tokens %d, completion tokens %d",
        *(scope["method"], scope["path"], status, took_ms, first_ms),
        *(journey.items, journey.prompt_tokens, journey.completion_tokens),
    )


@asynccontextmanager
async def _until_it_begins(limit_s: float) -> AsyncIterator[Callable[[], None]]:
    """Limit the block until the yielded function is called. Raises RequestError (503) after `limit_s`."""
    deadline = asyncio.timeout(limit_s)

    def began() -> None:
        if not deadline.expired():
            deadline.reschedule(None)

    try:
        async with deadline:
            yield began
    except TimeoutError:
        if not deadline.expired():
            raise
        raise overloaded(f"the answer could not begin within {limit_s:g} s") from None


async def _unless_gone(receive: Receive, work: Awaitable[int], closing: asyncio.Future[None]) -> int:
    """Return the work's result. If the client disconnects or the server shuts down, cancel the work in any stage."""

    async def gone() -> None:
        message: Message = {}
        while message.get("type") != "http.disconnect":
            message = await receive()

    task = asyncio.current_task()
    assert task is not None
    ended = False

    def end(_: asyncio.Future[None]) -> None:
        nonlocal ended
        if not ended:
            ended = task.cancel()

    watching = asyncio.ensure_future(gone())
    for sign in (watching, closing):
        sign.add_done_callback(end)
    try:
        return await work
    except asyncio.CancelledError:
        if not ended:
            raise
        task.uncancel()
        raise ClientGone if watching.done() else unavailable("the server is shutting down", retry_after_s=5) from None
    finally:
        ended = True
        closing.remove_done_callback(end)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
