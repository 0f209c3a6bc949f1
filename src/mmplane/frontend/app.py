"""The HTTP face: which route leads where, and who is let in."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mmplane.core.errors import RequestError
from mmplane.frontend.assembly import Assembly
from mmplane.frontend.http.access import Access
from mmplane.frontend.http.completions import ChatEndpoint
from mmplane.frontend.http.guard import Guard
from mmplane.frontend.http.reply import error_object
from mmplane.frontend.http.request_id import RequestIds
from mmplane.frontend.http.routes import Routes
from mmplane.frontend.report import Report


def build(parts: Assembly, closing: asyncio.Future[None]) -> ASGIApp:
    """The application: every route of the server. When `closing` is done, what still runs ends."""
    chat = _chat(parts, closing)
    console = _console(parts)
    app = Starlette(
        routes=[
            Route("/", console.page),
            Route("/v1/chat/completions", chat, methods=["POST"]),
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
    if parts.keyring:
        return RequestIds(Guard(Access(app, parts.keyring), None))
    return RequestIds(Guard(app, (parts.config.host, *parts.config.allow_hosts)))


def _chat(parts: Assembly, closing: asyncio.Future[None]) -> ChatEndpoint:
    return ChatEndpoint(
        chat=parts.chat,
        bodies=parts.bodies,
        budget=parts.budget,
        counters=parts.counters,
        journal=parts.journal,
        readiness=parts.readiness,
        closing=closing,
        seats=parts.seats,
        config=parts.config,
    )


def _console(parts: Assembly) -> Routes:
    report = Report(parts)
    return Routes(
        served_name=parts.config.served_name,
        readiness=parts.readiness,
        dispatch=parts.dispatch,
        journal=parts.journal,
        statistics=report.statistics,
        figures=report.figures,
    )


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    refusal = RequestError(error.status_code, code, str(error.detail))
    return Response(error_object(refusal), error.status_code, error.headers, "application/json")
