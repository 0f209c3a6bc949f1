"""A render process: follows the supervisor, and renders requests on the listening socket that all of them share.

All render processes accept on one socket. So any free process takes the next connection, another process takes the
connections that wait for a dead one, and a stalled process takes none.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from dataclasses import replace

import msgspec
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mmplane.config import Config
from mmplane.core.control import Beat, Drain, Drained, Ready, Spawn, ToRender, Unloadable
from mmplane.core.keyring import Keyring
from mmplane.frontend.chat.model import Model, load
from mmplane.frontend.chat.preparation import Preparation
from mmplane.frontend.http.endpoint import Endpoint
from mmplane.frontend.http.render import Renderings
from mmplane.frontend.request.intake import Intake
from mmplane.frontend.request.renderer import Renderer
from mmplane.frontend.request.threaded import ThreadedBodies
from mmplane.frontend.server import Entrance, application, finish, server_of
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.source import Source
from mmplane.observe.counters import Counters
from mmplane.observe.exposition import CONTENT_TYPE, exposition
from mmplane.process.handed import handed
from mmplane.render.attached import Attached
from mmplane.render.looks import HeaderLooks
from mmplane.render.tally import METRICS, Tally
from mmplane.waiting.budget import Budget
from mmplane.waiting.share import Share
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox

log = logging.getLogger("mmplane")


def main(spawn: Spawn, descriptors: dict[str, int]) -> None:
    """Render requests until the supervisor ends the process."""
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(RenderProcess(config, spawn.index, descriptors).run())


class RenderProcess:
    """Number `index` of all. `descriptors`: `control`, `listener`, `keyring`, `tally`."""

    def __init__(self, config: Config, index: int, descriptors: dict[str, int]) -> None:
        self._config = config
        self._descriptors = descriptors
        self._tally = Tally(descriptors["tally"], config.render_processes, index)
        self.draining = False

    async def run(self) -> None:
        """Build, announce, serve."""
        self._supervisor = Mailbox(Link(self._descriptors["control"], ToRender), receive=self._hear)
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._counters = Counters()
        app = self._app(self._load())
        server = server_of(app, self._config, beat=lambda: self._supervisor.post(Beat()))
        gc.freeze()  # what is loaded is never garbage
        self._supervisor.post(Ready())
        await server.serve(sockets=[socket.socket(fileno=self._descriptors["listener"])])

    async def check(self) -> str | None:
        """Why it renders nothing; None if it does."""
        return "the sidecar is shutting down" if self.draining else None

    def _load(self) -> Model:
        try:
            return load(self._config)
        except (ValueError, OSError) as error:
            log.exception("the render process could not start")
            self._supervisor.post(Unloadable(f"requests for this model cannot be rendered: {error}"))
            raise

    def _app(self, model: Model) -> ASGIApp:
        keyring = msgspec.msgpack.decode(handed(self._descriptors["keyring"]), type=Keyring)
        routes = [
            Route("/v1/chat/completions/render", self._endpoint(model), methods=["POST"]),
            Route("/metrics", self._metrics),
        ]
        return application(routes, self, Entrance(keyring, (self._config.host,)))

    def _endpoint(self, model: Model) -> Endpoint:
        config = self._config
        preparation = Preparation(
            config,
            Intake(
                HeaderLooks(replace(model.processors, embeddings=None), Attached(config.socket)),
                Source(Allowed(config.fetch_hosts)),
                frames_max=config.video_frames_max,
            ),
            model.marks,
            context_tokens=model.renderer.context_tokens,
            vocabulary_tokens=model.renderer.vocabulary_tokens,
            names={config.served_name, config.model_id} - {""},
        )
        return Endpoint(
            Renderings(preparation, model_id=config.model_id or config.model),
            bodies=ThreadedBodies(model.renderer, lambda: Renderer.load(config), bytes_max=config.body_bytes_max),
            budget=Budget(config.budget_bytes // config.render_processes, tenants=config.tenants),
            counters=self._counters,
            journal=self._tally,
            standing=self,
            closing=self._closing,
            seats=Share(config.running_max + config.queue_max, config.tenants),
            config=config,
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(exposition(self._tally.figures(), METRICS), media_type=CONTENT_TYPE)

    async def _drain(self, limit_s: float) -> None:
        await finish(self._counters, self._closing, limit_s)
        self._supervisor.post(Drained())

    def _hear(self, record: Drain, _: list[int]) -> None:
        self.draining = True
        self._draining = asyncio.create_task(self._drain(record.limit_s))
