"""The HTTP face: which route leads where, and who is let in."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mmplane.core.errors import RequestError
from mmplane.core.keyring import Keyring
from mmplane.frontend.http.access import Access
from mmplane.frontend.http.endpoint import Endpoint
from mmplane.frontend.http.guard import Guard
from mmplane.frontend.http.reply import error_object
from mmplane.frontend.http.request_id import RequestIds
from mmplane.frontend.http.routes import Routes


def build(chat: Endpoint, render: Endpoint, console: Routes, keyring: Keyring, hosts: tuple[str, ...]) -> ASGIApp:
    """The application: every route of the server. Without keys, requests must name one of `hosts`."""
    app = Starlette(
        routes=[
            Route("/", console.page),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/chat/completions/render", render, methods=["POST"]),
            Route("/v1/models", console.models),
            Route("/health", console.health),
            Route("/ready", console.ready),
            Route("/metrics", console.metrics),
            Route("/admin/delivery", console.delivery, methods=["GET", "PUT"]),
            Route("/admin/statistics", console.statistics),
            Route("/admin/requests", console.requests),
        ],
        exception_handlers={HTTPException: _refuse},
    )
    if keyring:
        return RequestIds(Guard(Access(app, keyring), None))
    return RequestIds(Guard(app, hosts))


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    refusal = RequestError(error.status_code, code, str(error.detail))
    return Response(error_object(refusal), error.status_code, error.headers, "application/json")
