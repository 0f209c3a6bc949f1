"""Where media comes from: a data URI, or a host that the operator named, whatever the URL looks like (S3, S8)."""

from __future__ import annotations

import asyncio
import base64
import json
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from hypothesis import given, strategies
from msgspec import Raw

from frontend_loop import in_loop
from mmplane.core.errors import RequestError
from mmplane.frontend.body.schema import parse
from mmplane.frontend.sources import data_uri
from mmplane.frontend.sources import fetch as fetch_module
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.data_uri import decode_data_uri, inline_base64
from mmplane.frontend.sources.source import Source


def refusal(url: str) -> RequestError:
    with pytest.raises(RequestError) as refused:
        decode_data_uri(url.encode(errors="replace"))
    assert refused.value.status == 400
    assert len(refused.value.message) < 100
    return refused.value


# Data URIs.


@given(content=strategies.binary(max_size=100))
def test_a_data_uri_gives_its_bytes(content: bytes) -> None:
    assert decode_data_uri(("data:image/png;base64," + base64.b64encode(content).decode()).encode()) == content


@pytest.mark.parametrize(
    "head",
    [
        "data:;base64,",
        "data:image/svg+xml;charset=utf-8;base64,",
        "data:a;base64;base64,",
        "DATA:IMAGE/PNG;BASE64,",
        "data:image/png; base64 ,",
        " \r\n\tdata:;base64,",
    ],
)
def test_what_the_head_says_of_the_type_does_not_matter(head: str) -> None:
    assert decode_data_uri((head + "QUJD").encode()) == b"ABC"


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:image/png;base64",
        "data:image/png;base64;QUJD",
        "data:image/png,QUJD",
        "data:,QUJD",
        "data:image/png;base65,QUJD",
        f"data:{'x' * 300};base64,QUJD",
        f"data:{'x' * 10_000_000}",
        "data:" + ";base64" * 100_000 + ",QUJD",
    ],
    ids=lambda url: url[:30],
)
def test_a_head_that_does_not_say_base64_is_refused(url: str) -> None:
    assert refusal(url).message == "the data URI is not base64"


PADDED = base64.b64encode(bytes(range(248, 256)) * 40).decode()
"""With every character that percent-encoding changes, and padding."""


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(PADDED.rstrip("="), id="no padding"),
        pytest.param(PADDED + "==", id="too much padding"),
        pytest.param("\n".join(textwrap.wrap(PADDED, 64)) + "\n", id="lines"),
        pytest.param("\r\n".join(textwrap.wrap(PADDED, 76)), id="lines as mail has them"),
        pytest.param(" \t".join(textwrap.wrap(PADDED, 7)) + "\v\f", id="white space"),
        pytest.param(quote(PADDED, safe=""), id="percent-encoded"),
        pytest.param(PADDED.replace("+", "%2b").replace("/", "%2f").replace("=", "%3d"), id="in lower case"),
        pytest.param(quote("\r\n".join(textwrap.wrap(PADDED.rstrip("="), 76)), safe=""), id="all of it"),
    ],
)
def test_base64_as_clients_write_it(written: str) -> None:
    assert decode_data_uri(b"data:image/png;base64," + written.encode()) == base64.b64decode(PADDED)
    assert inline_base64(Raw(json.dumps(written).encode()), "input_audio") == base64.b64decode(PADDED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Q", "it is cut off"),
        ("QUJDQ", "it is cut off"),
        ("Q%3D%3D", "it is cut off"),
        ("QUJD,QUJD", "',' at position 4"),
        ("QU-_", "'-' at position 2"),
        ("QUJD=QUJD", "'=' at position 4"),
        ("QUJD\n\n QU!D", "'!' at position 9"),
        ("%2BUJD%0A@@", "'@' at position 9"),
        ("QU%4A", "'%' at position 2"),
        ("Ψ", "'\\u03a8' at position 0"),
        ("QUJD😀", "'\\U0001f600' at position 4"),
        ("QUJ\x00", "'\\x00' at position 3"),
        ("QUJD\ud800", "'?' at position 4"),
    ],
)
def test_the_first_wrong_character_of_base64_is_named(content: str, reason: str) -> None:
    error = refusal("data:image/png;base64," + content)
    assert error.message == f"the data URI is not valid base64: {reason}"
    assert error.param == "image_url"
    with pytest.raises(RequestError) as plain:
        inline_base64(Raw(json.dumps(content).encode()), "input_audio")
    assert plain.value.param == "input_audio"


@in_loop
async def test_only_a_text_that_needs_it_is_decoded_twice() -> None:
    """Six megabytes as most clients send them are read once, and never become a string."""
    url = Raw(b'"data:image/png;base64,' + base64.b64encode(bytes(6_000_000)) + b'"')
    with pytest.MonkeyPatch.context() as modules:
        modules.setattr(data_uri, "decode_base64", None)
        modules.setattr(data_uri, "text_of", None)
        assert data_uri.inline_media(url) == bytes(6_000_000)


def test_megabytes_that_are_wrong_at_the_end_get_a_short_answer() -> None:
    """Hazard R13."""
    assert "A" * 20 not in refusal("data:image/png;base64," + "A" * 6_000_000 + "!").message


# As they lie in a body.


async def loaded(text: bytes) -> bytes:
    """What a URL gives that stands in a request as this JSON string."""
    content = b'{"type": "image_url", "image_url": {"url": "' + text + b'"}}'
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": [' + content + b"]}]}"
    loads = Source(Allowed(()))
    try:
        return await loads.load_json(parse(body).media[0].source or Raw(b""))
    finally:
        await loads.close()


@pytest.mark.parametrize(
    "text",
    [
        b"data:image/png;base64,+/+/+/8=",
        rb"data:image\/png;base64,+\/+\/+\/8=",  # PHP
        rb"data:image/png;base64,\u002b/\u002B/\u002b/8=",  # .NET
        rb"data:image/png;base64,+/+/+/8\u003d",  # Gson
        rb"\u0064\u0061ta:image/png;base64\u002c+/+/+/8=",
        rb"data:image/png;base64,+/+/\r\n+/8=\n",  # Python's encodebytes
        rb"DATA:image/png;BASE64,+/+/+/8",
    ],
)
@in_loop
async def test_a_json_encoder_may_escape_what_it_likes(text: bytes) -> None:
    assert await loaded(text) == base64.b64decode("+/+/+/8=")


@pytest.mark.parametrize("text", [b"http://\xff", b"data:;base64,QU\xff", b"\xff", rb"data:;base64,\u00", rb"\ud800"])
@in_loop
async def test_what_is_no_text_is_the_clients_error(text: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        await loaded(text)
    assert refused.value.status == 400


# Addresses.


class Host:
    """A host on the loopback that counts who comes and answers with whatever it was given."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connects = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def hosting(answer: bytes, *allowed: str, networks: Sequence[str] = ()) -> AsyncIterator[tuple[Source, Host]]:
    host = Host(answer)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    loads = Source(Allowed(allowed or ["127.0.0.1"], networks))
    try:
        async with server:
            yield loads, host
    finally:
        await loads.close()


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


async def fetch(answer: bytes) -> bytes | RequestError:
    async with hosting(answer) as (loads, host):
        try:
            return await loads.load(f"http://127.0.0.1:{host.port}/cat.png")
        except RequestError as error:
            assert host.connects == (fetch_module.ATTEMPTS_MAX if b" 500 " in answer else 1)
            return error


@in_loop
async def test_a_data_uri_needs_no_host() -> None:
    async with hosting(b"") as (loads, host):
        assert await loads.load("data:;base64,QUJD") == b"ABC"
        assert host.connects == 0


@in_loop
async def test_an_allowed_host_is_asked_plainly() -> None:
    async with hosting(response("200 OK", b"a cat", "Content-Length: 5")) as (loads, host):
        assert await loads.load(f"HTTP://127.0.0.1:{host.port}/cat.png") == b"a cat"
        (request,) = host.requests
        assert request.startswith(b"GET /cat.png HTTP/1.1\r\n")
        assert b"accept-encoding: identity\r\n" in request.lower(), "a small gzip may hold a large picture"
        assert b"cookie" not in request.lower()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@allowed.test:{port}/",
        "http://127.0.0.1:{port}\\@allowed.test/",
        "http://allowed.test\\@127.0.0.1:{port}/",
        "http://allowed.test@127.0.0.1:{port}/",
        "http://allowed.test:80@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}@allowed.test/",
        "http://user:password@allowed.test:{port}/",
        "http://127.0.0.1:{port}#@allowed.test/",
        "http://127.0.0.1:{port}?@allowed.test/",
        "http://127.0.0.1:{port}/allowed.test",
        "http://allowed.test.127.0.0.1.nip.io:{port}/",
        "http://127.0.0.1.allowed.test:{port}/",
        "http://notallowed.test:{port}/",
        "http://allowed.test.:{port}/",
        "http://allowed%2etest:{port}/",
        "http://allowed.tes%74:{port}/",
        "http://ａllowed.test:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://localhost:{port}/",
        "http:///127.0.0.1:{port}/",
        "http:127.0.0.1:{port}",
        "http://",
        "http://:{port}/",
        "//127.0.0.1:{port}/",
        "127.0.0.1:{port}",
        "https://127.0.0.1:{port}/",
        "ftp://allowed.test/",
        "file:///etc/passwd",
        "file://allowed.test/etc/passwd",
        "gopher://allowed.test:{port}/",
        "javascript:alert(1)",
        "",
        "http://[",
        "http://[allowed.test]:{port}/",
    ],
)
@in_loop
async def test_tricks_reach_nobody(url: str) -> None:
    async with hosting(response("200 OK"), "allowed.test") as (loads, host):
        with pytest.raises(RequestError) as refused:
            await loads.load(url.format(port=host.port))
        assert refused.value.status == 400
        assert host.connects == 0


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "x", "80:80", "9" * 10_000])
@in_loop
async def test_a_port_that_is_none_is_the_clients_error(port: str) -> None:
    async with hosting(response("200 OK")) as (loads, host):
        with pytest.raises(RequestError) as refused:
            await loads.load(f"http://127.0.0.1:{port}/")
        assert (refused.value.status, host.connects) == (400, 0)


@in_loop
async def test_no_host_is_allowed_unless_the_operator_says_so() -> None:
    async with hosting(response("200 OK")) as (_, host):
        none = Source(Allowed(()))
        with pytest.raises(RequestError) as refused:
            await none.load(f"http://127.0.0.1:{host.port}/")
        await none.close()
        assert (refused.value.code, host.connects) == ("host_not_allowed", 0)


@in_loop
async def test_names_of_hosts_have_no_case() -> None:
    async with hosting(response("200 OK", b"x"), "LocalHost", networks=["127.0.0.0/8", "::1/128"]) as (loads, host):
        assert await loads.load(f"http://LOCALHOST:{host.port}/") == b"x"


@in_loop
async def test_proxies_of_the_environment_are_ignored() -> None:
    with pytest.MonkeyPatch.context() as environment:
        async with hosting(response("200 OK", b"x")) as (_, host):
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
                environment.setenv(name, "http://127.0.0.1:1/")
            loads = Source(Allowed(["127.0.0.1"]))
            assert await loads.load(f"http://127.0.0.1:{host.port}/") == b"x"
            await loads.close()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (response("404 Not Found", b"secret", "Content-Length: 6"), 400),
        (response("204 No Content"), 400),
        (response("500 Oops", b"secret", "Content-Length: 6"), 502),
        (response("200 OK", b"half", "Content-Length: 100"), 502),
        (response("200 OK", b"zz\r\nsecret", "Transfer-Encoding: chunked"), 502),
        (b"secret", 502),
        (b"", 502),
    ],
)
@in_loop
async def test_what_a_host_does_wrong(answer: bytes, status: int) -> None:
    error = await fetch(answer)
    assert isinstance(error, RequestError)
    assert error.status == status
    assert "secret" not in error.message
    assert "127.0.0.1" not in error.message


@in_loop
async def test_a_host_that_is_not_there() -> None:
    async with hosting(b"") as (_, host):
        pass
    loads = Source(Allowed(["127.0.0.1"]))
    with pytest.raises(RequestError) as refused:
        await loads.load(f"http://127.0.0.1:{host.port}/")
    await loads.close()
    assert refused.value.status == 502


@in_loop
async def test_a_body_ends_at_the_cap() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "MEDIA_BYTES_MAX", 1000)
        assert await fetch(response("200 OK", bytes(1000), "Content-Length: 1000")) == bytes(1000)
        for headers in ([], ["Content-Length: 100000000"], ["Content-Length: 200000"]):
            error = await fetch(response("200 OK", bytes(200_000), *headers))
            assert isinstance(error, RequestError)
            assert error.status == 413


class Drip(Host):
    """Sends a byte at a time and never ends."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        try:
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()


@in_loop
async def test_a_host_that_drips_is_left_alone() -> None:
    """Hazard S8: each byte comes in time, and the whole never does."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "FETCH_SECONDS", 0.2)
        host = Drip(response("200 OK"))
        server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
        loads = Source(Allowed(["127.0.0.1"]))
        async with server:
            with pytest.raises(RequestError) as refused:
                await loads.load(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            await loads.close()
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        assert refused.value.status == 504
