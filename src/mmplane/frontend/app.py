"""The HTTP application of a server: maps routes to handlers."""

from __future__ import annotations

from starlette.routing import Route
from starlette.types import ASGIApp

from mmplane.frontend.http.endpoint import Endpoints
from mmplane.frontend.http.routes import Routes
from mmplane.frontend.server import Entrance, application


def build(endpoints: Endpoints, console: Routes, entrance: Entrance) -> ASGIApp:
    """Build the application: every route of the server except the probes, behind its access checks."""
    routes = [
        Route("/", console.page),
        Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
        Route("/v1/chat/completions/render", endpoints.render, methods=["POST"]),
        Route("/v1/completions", endpoints.text, methods=["POST"]),
        Route("/v1/models", console.models),
        Route("/v1/models/{id:path}", console.model),
        Route("/version", console.version),
        Route("/metrics", console.metrics),
        Route("/admin/delivery", console.delivery, methods=["GET", "PUT"]),
        Route("/admin/statistics", console.statistics),
        Route("/admin/requests", console.requests),
    ]
    return application(routes, console.readiness, entrance)
