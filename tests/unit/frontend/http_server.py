"""The HTTP server without the rest: connections on a socket, a small application, and a client that writes bytes."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from frontend_loop import _guarded, settle
from mmplane.core.errors import RequestError
from mmplane.frontend.http.connections import Connection
from mmplane.frontend.http.crowd import Crowd
from mmplane.frontend.http.reply import Reply

PLENTY = 1000
LARGE_BYTES = 10_000_000
"""More than kernels keep for a client that does not read."""


def in_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in the loop that the front end has."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        uvloop.run(_guarded(test(*arguments, **keywords)))

    return run


class App:
    """Answers with what it was sent; `/wait` waits for `go`, `/unread` refuses, `/large` and `/flood` say much."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.waiting: list[str] = []
        self.gone: list[str] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()
        self.changed = asyncio.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await self._note(self.begun, path)
        try:
            await self._answer(scope, receive, send)
        except RequestError as refusal:
            await Reply(send).error(refusal)
        finally:
            await self._note(self.ended, path)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/unread":
            await _answer(send, 403, b"no")
            return
        body = await self._body(receive)
        if path.startswith("/wait"):
            await self._wait(path, receive)
        if path == "/large":
            await _answer(send, 200, b"y" * LARGE_BYTES)
            return
        if path == "/flood":
            await self._flood(receive, send)
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        await _answer(send, 200, json.dumps({"path": path, "body": body.decode(), "headers": headers}).encode())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until something is so."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def _note(self, where: list[str], path: str) -> None:
        where.append(path)
        async with self.changed:
            self.changed.notify_all()

    async def _body(self, receive: Any) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body

    async def _wait(self, path: str, receive: Any) -> None:
        gone, go = asyncio.ensure_future(receive()), asyncio.ensure_future(self.go.wait())
        await asyncio.sleep(0)
        await self._note(self.waiting, path)
        await asyncio.wait((gone, go), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            await self._note(self.gone, path)
        for each in (gone, go):
            each.cancel()
        await asyncio.gather(gone, go, return_exceptions=True)

    async def _flood(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)


async def _answer(send: Any, status: int, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: status, headers, content."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def status(self) -> int:
        return (await self.answer())[0]

    async def rest(self) -> bytes:
        """What else comes until the server ends the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def leave(self) -> None:
        """Close it, when all that was sent has gone."""
        self.writer.close()


class Served:
    """A server, and clients of it."""

    def __init__(self, app: App, crowd: Crowd, state: ServerState, port: int) -> None:
        self.app = app
        self.crowd = crowd
        self.state = state
        self._port = port
        self._clients: list[Client] = []
        self.sockets: list[socket.socket] = []
        """To be closed at the end."""

    async def client(self, host: str = "127.0.0.1", **how: Any) -> Client:
        """One more connection, from that address."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(host, 0), **how)
        self._clients.append(Client(reader, writer))
        return self._clients[-1]

    async def close(self) -> None:
        """End whatever is left: also what a test has found to be stuck."""
        for client in self._clients:
            client.writer.transport.abort()
        for each in self.sockets:
            each.close()
        for connection in tuple(self.state.connections):
            connection.abort()  # type: ignore[union-attr]
        if tasks := tuple(self.state.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await settle()

    async def idle(self) -> None:
        """Until there is no connection, and no request."""
        while self.state.connections or self.state.tasks:  # noqa: ASYNC110 - they are uvicorn's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def served(connections_max: int = PLENTY, *trusted: str) -> AsyncIterator[Served]:
    """At the end no connection and no request may be left."""
    app, crowd, state = App(), Crowd(connections_max, trusted), ServerState()
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False)
    loop = asyncio.get_running_loop()
    factory = functools.partial(Connection, crowd=crowd, config=config, server_state=state, app_state={}, _loop=loop)
    server = await loop.create_server(factory, "127.0.0.1", 0)
    service = Served(app, crowd, state, server.sockets[0].getsockname()[1])
    try:
        yield service
    finally:
        await service.close()
        server.close()
        await server.wait_closed()
    assert crowd.statistics().connections == 0
