"""Gives each request an id for the log and the answer: `x-request-id`, the client's own if it sent a plain one."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmplane.process.logs import Asked, on_behalf

log = logging.getLogger("mmplane")
HEADER = b"x-request-id"
_ID = "mmplane.request_id"


class RequestIds:
    """Forwards requests with an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        asked = Asked.as_named(dict(scope["headers"]).get(HEADER, b"").decode("latin-1"))
        scope[_ID] = asked.id
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, asked.id.encode())]
            await send(message)

        began_s = time.perf_counter()
        with on_behalf(asked):
            try:
                await self._app(scope, receive, send_named)
            finally:
                took_ms = (time.perf_counter() - began_s) * 1000
                log.debug("%s %s %d in %.1f ms", scope["method"], scope["path"], status, took_ms)


def id_of(scope: Scope) -> str:
    """The request's id: the same in its answer, its trace, its timeline and the log."""
    name: str = scope.get(_ID) or Asked().id
    return name
