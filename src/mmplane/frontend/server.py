"""Common parts of mmplane's HTTP processes: access, probes, limits on connections, and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mmplane.config import Config
from mmplane.core.errors import RequestError, error_object, overloaded
from mmplane.core.keyring import Keyring
from mmplane.frontend.http.access import Access
from mmplane.frontend.http.connections import Connection
from mmplane.frontend.http.crowd import Crowd
from mmplane.frontend.http.guard import Guard
from mmplane.frontend.http.paths import Paths
from mmplane.frontend.http.request_id import RequestIds
from mmplane.observe.counters import Counters
from mmplane.process.child import BEAT_SECONDS
from mmplane.process.descriptors import connections_max

BACKLOG = 1024
"""Backlog of connections that wait to be accepted."""


class Checked(Protocol):
    """Anything that knows whether this process can do its work."""

    async def check(self) -> str | None:
        """Return None if the process can do its work, otherwise the reason why not."""


@dataclass(frozen=True)
class Entrance:
    """Who may connect: API keys, names of this server, path prefix, and allowed origins."""

    keyring: Keyring
    hosts: tuple[str, ...]
    """Names that the Host header must have, unless there are keys."""
    origins: tuple[str, ...] = ()
    open_routes: tuple[str, ...] = ()
    root: str = ""

    @classmethod
    def of(cls, config: Config, keyring: Keyring) -> Entrance:
        """Take the settings from the configuration."""
        hosts = (config.host, *config.allow_hosts)
        return cls(keyring, hosts, config.allow_origins, config.open_routes, config.root_path)

    def before(self, app: ASGIApp) -> ASGIApp:
        """Put the application behind these checks."""
        hosts: tuple[str, ...] | None = self.hosts
        if self.keyring:
            app, hosts = Access(app, self.keyring, self.open_routes), None
        return Paths(RequestIds(Guard(app, hosts, self.origins)), self.root)


def application(routes: Sequence[Route], checked: Checked, entrance: Entrance) -> ASGIApp:
    """Build an application of these routes and the probes, behind the access checks."""

    async def health(_: Request) -> Response:
        """200: this process answers."""
        return Response(msgspec.json.encode({"status": "alive"}), media_type="application/json")

    async def ready(_: Request) -> Response:
        """200 if this process can do its work, otherwise 503 with the reason."""
        why = await checked.check()
        if why is None:
            return Response(msgspec.json.encode({"status": "ready"}), media_type="application/json")
        return Response(error_object(overloaded(why)), 503, {"retry-after": "1"}, "application/json")

    probes = [Route("/health", health), Route("/ping", health), Route("/ready", ready)]
    app = Starlette(routes=[*routes, *probes], exception_handlers={HTTPException: _refuse})
    return entrance.before(app)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    refusal = RequestError(error.status_code, code, str(error.detail))
    return Response(error_object(refusal), error.status_code, error.headers, "application/json")


class Server(uvicorn.Server):
    """uvicorn's server, but the supervisor handles signals, and an idle server sleeps. Calls `beat` once a second."""

    def __init__(self, config: uvicorn.Config, beat: Callable[[], object]) -> None:
        super().__init__(config)
        self._beat = beat

    async def main_loop(self) -> None:
        """Replaces uvicorn's loop, which wakes up ten times a second. `on_tick` sets the date of answers."""
        while not await self.on_tick(0):
            self._beat()
            await asyncio.sleep(BEAT_SECONDS)

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture no signals."""
        return nullcontext()


def server_of(app: ASGIApp, config: Config, beat: Callable[[], object]) -> Server:
    """Return a server for this application, with all limits on connections."""
    crowd = Crowd(connections_max(config.processes()), config.trusted_proxies)
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            http=partial(Connection, crowd=crowd),  # type: ignore[arg-type]
            backlog=BACKLOG,
        ),
        beat,
    )


async def finish(counters: Counters, closing: asyncio.Future[None], limit_s: float) -> None:
    """Wait until no request is in flight. After this many seconds, set `closing` to end the rest."""
    try:
        async with asyncio.timeout(limit_s):
            await counters.wait_idle()
    except TimeoutError:
        closing.set_result(None)
        await counters.wait_idle()
