"""A hostile client: `strangers.py KIND HOST PORT KEY SECONDS [PATH]`, from 127.0.0.2, in a process of its own.

Each kind is what one connection does. So many run at once, and each begins again when the server has ended it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

ADDRESS = "127.0.0.2"
TICK_S = 0.1
CHAT = "/v1/chat/completions"
TEXT_BYTES = 1_000_000
PARTS = 30_000

Kind = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One connection, and the key that it may show."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, path: str) -> None:
        self.reader = reader
        self.writer = writer
        self.head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n".encode()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        while True:
            await self.send(data)
            await asyncio.sleep(TICK_S)

    async def ask(self, body: bytes) -> None:
        await self.send(self.head + b"content-length: %d\r\n\r\n" % len(body) + body)


async def slow_header(it: Connection) -> None:
    await it.send(b"GET /health HTTP/1.1\r\nhost: x\r\na: ")
    await it.drip(b"x")


async def slow_body(it: Connection) -> None:
    await it.send(it.head + b"content-length: 60000000\r\n\r\n")
    await it.drip(b"x")


async def slow_reader(it: Connection) -> None:
    await it.ask(_chat("Hello", stream=True, n=16, max_tokens=400))
    await asyncio.sleep(3600)


async def header_flood(it: Connection) -> None:
    await it.send(b"GET /health HTTP/1.1\r\nhost: x\r\na: ")
    while True:
        await it.send(b"x" * 65536)


async def idle(it: Connection) -> None:
    await it.send(b"G")
    await it.reader.read()


async def chunked_crawl(it: Connection) -> None:
    await it.send(it.head + b"transfer-encoding: chunked\r\n\r\n")
    await it.drip(b"1\r\n{\r\n")


async def pipelining(it: Connection) -> None:
    await it.ask(_chat("Hello", max_tokens=200))
    while True:
        await it.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
        await asyncio.sleep(TICK_S)


async def texts(it: Connection) -> None:
    await it.ask(_chat("hello " * (TEXT_BYTES // 6)))
    await it.reader.readuntil(b"\r\n")


async def parts(it: Connection) -> None:
    await it.ask(_chat([{"type": "text", "text": "x"}] * PARTS))
    await it.reader.readuntil(b"\r\n")


async def h2c(it: Connection) -> None:
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAE\r\n"
    body = _chat("Hello", max_tokens=1)
    await it.send(it.head + upgrade + b"content-length: %d\r\n\r\n" % len(body) + body + b"PRI * HTTP/2.0\r\n\r\n")
    await it.reader.read()


KINDS: dict[str, tuple[Kind, int]] = {
    "slow header": (slow_header, 40),
    "slow body": (slow_body, 12),
    "slow reader": (slow_reader, 8),
    "header flood": (header_flood, 8),
    "idle connections": (idle, 700),
    "chunked crawl": (chunked_crawl, 12),
    "pipelining": (pipelining, 8),
    "1 MB texts": (texts, 4),
    "many parts": (parts, 4),
    "h2c": (h2c, 4),
}


def _chat(content: object, **fields: object) -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "tiny", "messages": messages, "temperature": 0} | fields).encode()


async def attack(kind: str, host: str, port: int, key: str, seconds: float, path: str = CHAT) -> None:
    """Do it for so long."""
    one, count = KINDS[kind]

    async def again() -> None:
        while True:
            with suppress(OSError, EOFError):
                stranger = socket.socket()
                if one is slow_reader:
                    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                stranger.bind((ADDRESS, 0))
                stranger.setblocking(False)
                await asyncio.get_running_loop().sock_connect(stranger, (host, port))
                reader, writer = await asyncio.open_connection(sock=stranger, limit=2048)
                try:
                    await one(Connection(reader, writer, key, path))
                finally:
                    writer.transport.abort()
            await asyncio.sleep(TICK_S)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(again())


if __name__ == "__main__":
    asyncio.run(attack(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]), *sys.argv[6:]))
