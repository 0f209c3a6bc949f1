"""All routes except chat and probes: models, metrics, and the delivery switch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mmplane.core.errors import RequestError, error_object, too_large
from mmplane.frontend.body.schema import parse_switch
from mmplane.frontend.chat.readiness import Readiness
from mmplane.frontend.send.dispatch import Dispatch
from mmplane.observe.exposition import CONTENT_TYPE, Figures, exposition
from mmplane.observe.journal import Journal
from mmplane.observe.metrics import METRICS
from mmplane.observe.page import HEADERS, PAGE
from mmplane.observe.timeline import timeline

SMALL_BODY_BYTES = 4096
"""Maximum length of a body for these routes."""


class Routes:
    """One method for each route."""

    def __init__(
        self,
        *,
        names: Sequence[str],
        context_tokens: int,
        readiness: Readiness,
        dispatch: Dispatch,
        journal: Journal,
        statistics: Callable[[], dict[str, Any]],
        figures: Callable[[], Figures],
    ) -> None:
        self._names = names
        self._context_tokens = context_tokens
        self.readiness = readiness
        self._dispatch = dispatch
        self._journal = journal
        self._statistics = statistics
        self._figures = figures
        self._began_s = time.monotonic()

    async def models(self, _: Request) -> Response:
        """List the model under each of its names, as OpenAI lists models."""
        return _json(200, {"object": "list", "data": [self._model(name) for name in self._names]})

    async def model(self, request: Request) -> Response:
        """Describe one model by its name."""
        name = request.path_params["id"]
        if name not in self._names:
            error = RequestError(404, "model_not_found", "this server does not serve that model", param="model")
            return Response(error_object(error), error.status, media_type="application/json")
        return _json(200, self._model(name))

    async def version(self, _: Request) -> Response:
        """Version of this server."""
        return _json(200, {"version": version("mmplane")})

    def _model(self, name: str) -> dict[str, Any]:
        """The version in vLLM's format."""
        model = {"id": name, "object": "model", "created": 0, "owned_by": "mmplane"}
        return model | {"root": self._names[0], "max_model_len": self._context_tokens}

    async def delivery(self, request: Request) -> Response:
        """Show or set the switch: new requests use it, requests in flight finish with their own delivery."""
        if request.method == "PUT":
            try:
                switch = parse_switch(await _small_body(request))
                self._dispatch.put(switch.name, switch.share, switch.cache, switch.ingress)
            except RequestError as error:
                return Response(error_object(error), error.status, media_type="application/json")
        return _json(200, self._dispatch.now())

    async def statistics(self, _: Request) -> Response:
        """All current statistics."""
        return _json(200, self._statistics())

    async def requests(self, _: Request) -> Response:
        """Data of the status page: all current statistics, and the last requests."""
        told = {"state": self._statistics(), "uptime_s": time.monotonic() - self._began_s}
        recent = list(self._journal.recent())
        return await asyncio.to_thread(lambda: _json(200, told | {"requests": [timeline(each) for each in recent]}))

    async def page(self, _: Request) -> Response:
        """The status page."""
        return Response(PAGE, headers=HEADERS, media_type="text/html")

    async def metrics(self, _: Request) -> Response:
        """The metrics for Prometheus."""
        text = await asyncio.to_thread(exposition, self._figures(), METRICS)
        return Response(text, media_type=CONTENT_TYPE)


def _json(status: int, content: Any) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def _small_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > SMALL_BODY_BYTES:
            raise too_large("the body exceeds this route's limit")
    return body
