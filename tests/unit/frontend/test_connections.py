"""Connections: every byte and every second that a client can take has a limit (R20, S14, S16)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from http_server import Client, Served, in_uvloop, served

from mmplane.frontend.http import connections
from mmplane.frontend.http.connections import AHEAD_MAX, PIECE_BYTES, Phase
from mmplane.frontend.http.head import HEAD_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
SOON_S = 0.05
KIB = b"x" * 1024


async def _until_answered(client: Client, sent: bytes, more: bytes) -> int:
    """Send `more` again and again until the server answers; the status. What else it takes then is thrown away."""
    await client.send(sent)

    async def pour() -> None:
        while True:
            await client.send(more)

    pouring = asyncio.ensure_future(pour())
    try:
        return await client.status()
    finally:
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)


ENDLESS = {
    "a header line": (b"GET / HTTP/1.1\r\nhost: x\r\na: ", KIB, 431),
    "the name of a header": (b"GET / HTTP/1.1\r\nhost: x\r\n", KIB, 431),
    "headers": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a: " + KIB + b"\r\n", 431),
    "headers of no length": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a:\r\n" * 64, 431),
    "a URL": (b"GET /", KIB, 414),
    "line breaks before a request": (b"\r\n", b"\r\n" * 512, 431),
    "an extension of a chunk": (CHUNKED + b"5;a=", KIB, 431),
    "zeros before the length of a chunk": (CHUNKED, b"0" * 1024, 431),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"a: " + KIB + b"\r\n", 431),
    "a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\na: ", KIB, 431),
}


@pytest.mark.parametrize("what", ENDLESS)
@in_uvloop
async def test_what_does_not_end(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = _count_parsed(monkeypatch)
    async with served() as service:
        begin, more, status = ENDLESS[what]
        assert await _until_answered(await service.client(), begin, more) in (status, 400)
    assert check() <= HEAD_BYTES_MAX + PIECE_BYTES


def _count_parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Bytes that reach the parser, which is what may be kept."""
    feed, parsed = connections.Connection._feed, []

    def counted(self: connections.Connection, piece: bytes | memoryview) -> None:
        parsed.append(len(piece))
        feed(self, piece)

    monkeypatch.setattr(connections.Connection, "_feed", counted)
    return lambda: sum(parsed)


@in_uvloop
async def test_a_head_of_the_largest_size_passes() -> None:
    async with served() as service:
        client = await service.client()
        for bytes_more, status in ((0, 200), (1, 431)):
            url = b"/" + b"u" * (URL_BYTES_MAX - 1)
            head = b"GET " + url + b" HTTP/1.1\r\nhost: x\r\n"
            left = HEAD_BYTES_MAX - URL_BYTES_MAX - len(b"host: x\r\n") - len(b"a: \r\n") + bytes_more
            await client.send(head + b"a: " + b"v" * left + b"\r\n\r\n")
            assert await client.status() == status


@in_uvloop
async def test_so_many_headers_and_no_more() -> None:
    async with served() as service:
        client = await service.client()
        for count, status in ((HEADERS_MAX, 200), (HEADERS_MAX + 1, 431)):
            await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * (count - 1) + b"\r\n")
            assert await client.status() == status


TWO_WAYS = {
    "two Hosts": (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no Host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 200),
    "two keys": (POST + b"authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    "two origins": (POST + b"origin: http://x\r\norigin: http://y\r\n\r\n", 400),
    "two names": (POST + b"x-request-id: a\r\nx-request-id: b\r\n\r\n", 400),
    "two lengths": (POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello", 400),
    "a length of 5,001 digits": (POST + b"content-length: " + b"0" * 5000 + b"5\r\n\r\nhello", 400),
    "a negative length": (POST + b"content-length: -5\r\n\r\nhello", 400),
    "two codings": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a length and a coding": (POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "gzip": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked before gzip": (POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    "a preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "a bad chunk": (CHUNKED + b"hello\r\n", 400),
}


@pytest.mark.parametrize("what", TWO_WAYS)
@in_uvloop
async def test_what_could_be_read_in_two_ways(what: str) -> None:
    async with served() as service:
        client = await service.client()
        request, status = TWO_WAYS[what]
        await client.send(request)
        said, headers, content = await client.answer()
        assert said == status
        if status != 200:
            assert headers["connection"] == "close"
            assert json.loads(content)["error"]["code"]
            assert await client.rest() == b""


@in_uvloop
async def test_strangers_do_not_write_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as service:
        for request, _ in TWO_WAYS.values():
            client = await service.client()
            await client.send(request)
            await client.status()
        client = await service.client()
        await client.send(POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello")
        assert await client.status() == 200
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@in_uvloop
async def test_trailers_are_no_headers() -> None:
    async with served() as service:
        client = await service.client()
        await client.send(CHUNKED + b"5\r\nhello\r\n0\r\nauthorization: Bearer key\r\nhost: y\r\n\r\n")
        _, _, content = await client.answer()
        assert json.loads(content) == {
            "path": "/",
            "body": "hello",
            "headers": [["host", "x"], ["transfer-encoding", "chunked"]],
        }


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0", "anything"])
@pytest.mark.parametrize("split", [False, True])
@in_uvloop
async def test_an_upgrade_is_ignored(protocol: str, split: bool) -> None:
    """Java's client asks for HTTP/2 in this way, with its first request."""
    async with served() as service:
        client = await service.client()
        upgrade = f"connection: Upgrade, HTTP2-Settings\r\nupgrade: {protocol}\r\nhttp2-settings: AAE\r\n".encode()
        for body, framing in ((b"hello", b"content-length: 5\r\n\r\n"), (b"5\r\nhello\r\n0\r\n\r\n", CHUNKED[-30:])):
            await client.send(POST + upgrade + framing)
            if split:
                await asyncio.sleep(0.01)
            await client.send(body + GET)
            for expected in ("hello", ""):
                status, _, content = await client.answer()
                assert (status, json.loads(content)["body"]) == (200, expected)


@in_uvloop
async def test_requests_ahead_are_answered_in_order() -> None:
    async with served() as service:
        client = await service.client()
        await client.send(b"".join(POST + b"content-length: 1\r\n\r\n%d" % number for number in range(9)))
        for number in range(9):
            _, _, content = await client.answer()
            assert json.loads(content)["body"] == str(number)


BEHIND = {
    "a request": GET,
    "half a head": GET[:10],
    "half a body": POST + b"content-length: 10\r\n\r\nhello",
    "many requests": GET * (AHEAD_MAX + 5),
    "a large body": POST + b"content-length: 2000000\r\n\r\n" + b"x" * 1_000_000,
    "line breaks": b"\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("behind", BEHIND)
@in_uvloop
async def test_a_client_that_leaves_with_more_behind_it(behind: str) -> None:
    async with served() as service:
        client = await service.client()
        await client.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await service.app.until(lambda: service.app.waiting == ["/wait"])
        await client.send(BEHIND[behind])
        client.leave()
        await service.app.until(lambda: service.app.gone == ["/wait"])
        assert service.app.begun == ["/wait"]


@pytest.mark.parametrize("behind", ["many requests", "a large body", "no HTTP"])
@in_uvloop
async def test_too_much_behind_a_request_ends_the_connection_after_its_answer(behind: str) -> None:
    async with served() as service:
        client = await service.client()
        await client.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n" + BEHIND[behind])
        await service.app.until(lambda: service.app.begun == ["/wait"])
        service.app.go.set()
        answers = 0
        while True:
            status, headers, _ = await client.answer()
            assert status == 200
            answers += 1
            if headers.get("connection") == "close":
                break
        assert answers == (AHEAD_MAX if behind == "many requests" else 1)
        assert await client.rest() == b""


@in_uvloop
async def test_the_rest_of_a_refused_body_ends_the_connection() -> None:
    async with served() as service:
        client = await service.client()
        await client.send(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhello")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (403, "close")
        await client.send(GET)
        assert await client.rest() == b""
        assert service.app.begun == ["/unread"]


@in_uvloop
async def test_a_refused_body_that_came_whole_ends_nothing() -> None:
    async with served() as service:
        client = await service.client()
        await client.send(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello" + GET)
        assert [await client.status(), await client.status()] == [403, 200]


@in_uvloop
async def test_a_refusal_instead_of_a_continue() -> None:
    async with served() as service:
        client = await service.client()
        await client.send(
            b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n" + GET
        )
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (403, "close")
        assert await client.rest() == b""
        assert service.app.begun == ["/unread"]


@in_uvloop
async def test_a_refused_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DISCARD_BYTES_MAX", 1_000_000)
    async with served() as service:
        client = await service.client()
        await client.send(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
        assert await client.status() == 403

        async def pour() -> None:
            while True:
                await client.send(b"x" * 65536)

        with pytest.raises(ConnectionError):
            await pour()


LATE = {
    "nothing": ("IDLE_SECONDS", b"", None),
    "one byte": ("HEAD_SECONDS", b"G", 408),
    "line breaks": ("HEAD_SECONDS", b"\r\n", 408),
    "half a head": ("HEAD_SECONDS", GET[:-2], 408),
    "half a second head": ("HEAD_SECONDS", GET + GET[:-2], 408),
    "no body": ("BODY_SECONDS", POST + b"content-length: 5\r\n\r\n", 408),
    "half a body": ("BODY_SECONDS", POST + b"content-length: 5\r\n\r\nhe", 408),
    "half a chunk": ("BODY_SECONDS", CHUNKED + b"5\r\nhe", 408),
    "no end of trailers": ("BODY_SECONDS", CHUNKED + b"0\r\na: b\r\n", 408),
    "a body that crawls": ("LOOK_SECONDS", POST + b"content-length: 5\r\n\r\nhe", 408),
    "half a body after a continue": (
        "LOOK_SECONDS",
        POST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\nhe",
        100,
    ),
    "no further request": ("IDLE_SECONDS", GET, None),
    "the rest of a refused body": (
        "LINGER_SECONDS",
        b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe",
        None,
    ),
}


@pytest.mark.parametrize("what", LATE)
@in_uvloop
async def test_what_does_not_come_in_time(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, sent, last = LATE[what]
    monkeypatch.setattr(connections, limit, SOON_S)
    if limit == "BODY_SECONDS":
        monkeypatch.setattr(connections, "LOOK_SECONDS", SOON_S)
        monkeypatch.setattr(connections, "BODY_BYTES_PER_S", 0)
    async with served() as service:
        client = await service.client()
        await client.send(sent)
        said = await client.rest()
        assert (last is None) == (b" 408 " not in said)
        assert said or last is None
        if limit != "LINGER_SECONDS":
            client.leave()
        await service.idle()


@in_uvloop
async def test_time_in_which_this_process_was_frozen_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """R22: the client has had no chance to be late."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connections, "FROZEN_SECONDS", 0.1)
    async with served() as service:
        client = await service.client()
        await client.send(GET[:-2])
        (connection,) = service.state.connections
        for _ in range(1000):
            await asyncio.sleep(0)
            if connection._phase is Phase.HEAD:  # type: ignore[union-attr]
                break
        time.sleep(0.6)  # noqa: ASYNC251 - the freeze
        await asyncio.sleep(0)
        await client.send(GET[-2:])
        assert await client.status() == 200


@in_uvloop
async def test_an_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("IDLE_SECONDS", "HEAD_SECONDS", "BODY_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(connections, limit, SOON_S)
    async with served() as service:
        client = await service.client()
        await client.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n" + GET[:-2])
        await asyncio.sleep(4 * SOON_S)  # what must not happen
        monkeypatch.undo()
        service.app.go.set()
        assert await client.status() == 200
        await client.send(b"\r\n")
        assert await client.status() == 200


READERS = {"not at all": 0, "a byte at a time": 1, "as it comes": 65536}


@pytest.mark.parametrize("how", READERS)
@in_uvloop
async def test_how_a_client_reads(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes too little is cut off and its request ends; one that reads is served."""
    monkeypatch.setattr(connections, "SEND_SECONDS", SOON_S)
    async with served() as service:
        stranger = _narrow(service)
        stranger.sendall(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        stranger.setblocking(False)
        await service.app.until(lambda: service.app.begun == ["/flood"])

        async def read() -> None:
            for _ in range(500):
                await asyncio.get_running_loop().sock_recv(stranger, READERS[how])
                await asyncio.sleep(0 if how == "as it comes" else SOON_S / 10)

        reading = asyncio.ensure_future(read()) if READERS[how] else None
        if how == "as it comes" and reading:
            await reading
            assert service.app.ended == []
        else:
            await service.app.until(lambda: service.app.ended == ["/flood"])
            await service.idle()
        if reading:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _narrow(service: Served) -> socket.socket:
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stranger.connect(("127.0.0.1", service._port))
    service.sockets.append(stranger)
    return stranger


@pytest.mark.parametrize("how", [b"", b"connection: close\r\n"])
@in_uvloop
async def test_an_answer_that_nobody_fetches(how: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request has ended, and its answer lies here."""
    for limit in ("SEND_SECONDS", "IDLE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(connections, limit, SOON_S)
    async with served() as service:
        stranger = _narrow(service)
        stranger.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n" + how + b"\r\n")
        await service.app.until(lambda: service.app.ended == ["/large"])
        await service.idle()


class Wire:
    """A transport that counts what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written_bytes: list[int] = []

    def write(self, piece: bytes) -> None:
        self.written_bytes.append(len(piece))
        self._transport.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _wires(monkeypatch: pytest.MonkeyPatch) -> list[Wire]:
    """Those of the connections that are made from now on."""
    wires: list[Wire] = []
    begin = connections.Connection.connection_made

    def made(self: connections.Connection, transport: asyncio.Transport) -> None:
        wires.append(Wire(transport))
        begin(self, wires[-1])  # type: ignore[arg-type]

    monkeypatch.setattr(connections.Connection, "connection_made", made)
    return wires


@in_uvloop
async def test_head_and_body_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    wires = _wires(monkeypatch)
    async with served() as service:
        client = await service.client()
        for requests in (1, 2):
            await client.send(GET)
            assert await client.status() == 200
            assert len(wires[0].written_bytes) == requests


@in_uvloop
async def test_what_is_written_in_one_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes much without a pause has it in the transport, whose limits then hold it up."""
    wires = _wires(monkeypatch)
    async with served() as service:
        await (await service.client()).send(GET.replace(b"/", b"/flood", 1))
        await service.app.until(lambda: "/flood" in service.app.begun)
        while sum(wires[0].written_bytes) < 8 * PIECE_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert max(wires[0].written_bytes) <= 2 * PIECE_BYTES


# Who is connected.


@in_uvloop
async def test_one_address_has_a_share_and_others_come_in() -> None:
    async with served(16) as service:
        strangers = [await service.client("127.0.0.2") for _ in range(4)]
        assert await (await service.client("127.0.0.2")).status() == 503
        honest = await service.client("127.0.0.3")
        await honest.send(GET)
        assert await honest.status() == 200
        for _ in range(8):
            client = await service.client("127.0.0.1")
            await client.send(GET)
            assert await client.status() == 200
        strangers[0].leave()
        while service.crowd.statistics().connections > 12:  # noqa: ASYNC110
            await asyncio.sleep(0)
        again = await service.client("127.0.0.2")
        await again.send(GET)
        assert await again.status() == 200
