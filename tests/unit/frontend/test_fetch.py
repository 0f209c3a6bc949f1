"""Fetching from hosts that are hostile or unwell, with a real listener that counts who comes (S3, S8)."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address

import pytest

from frontend_loop import TURNS, in_loop
from mmplane.core.errors import RequestError, overloaded
from mmplane.frontend.sources import fetch as fetch_module
from mmplane.frontend.sources.addresses import Address, Allowed
from mmplane.frontend.sources.dial import Resolver
from mmplane.frontend.sources.fetch import Fetcher
from mmplane.waiting.threads import SUBJECT_THREADS_MAX

Answer = Callable[[str, dict[str, str]], bytes]


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class Canary:
    """A listener on the loopback: answers by path, and counts connections and requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connects = 0
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.now = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                self.paths.append(first.split()[1])
                self.headers.append(dict(line.lower().split(": ", 1) for line in lines))
                self.now += 1
                self.most = max(self.most, self.now)
                for _ in range(20):
                    await asyncio.sleep(0)  # so that others can come meanwhile
                self.now -= 1
                writer.write(self.answer(self.paths[-1], self.headers[-1]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def canary(answer: Answer = lambda *_: response("200 OK", b"a cat")) -> AsyncIterator[Canary]:
    host = Canary(answer)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host
    # Whoever fetched has closed its connections: the handlers have come to their end.
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


@asynccontextmanager
async def fetcher(
    *hosts: str, networks: Sequence[str] = ("127.0.0.0/8",), names: dict[str, list[str]] | None = None
) -> AsyncIterator[Fetcher]:
    """A fetcher whose resolver knows `names`; each look-up of a name takes the next of its addresses."""
    turns = {name: iter(addresses) for name, addresses in (names or {}).items()}

    async def resolve(host: str, _: int) -> list[Address]:
        if host in turns:
            return [ip_address(address) for address in next(turns[host]).split()]
        return [ip_address(host)]

    fetches = Fetcher(Allowed(hosts, networks), resolve=resolve)
    try:
        yield fetches
    finally:
        await fetches.close()


async def refused(fetches: Fetcher, url: str) -> RequestError:
    with pytest.raises(RequestError) as error:
        await fetches.fetch(url, ignore)
    assert "127.0.0.1" not in error.value.message
    return error.value


def ignore(_: int) -> None:
    pass


# Whom it dials.

METADATA = ("168.63.129.16", "192.0.0.192", "192.0.0.8", "100.100.100.200", "fd00:ec2::254", "64:ff9b::a83f:8110")
INSIDE = (
    *METADATA,
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fe80::1",
    "169.254.169.254",
    "10.0.0.1",
)


@pytest.mark.parametrize("address", INSIDE)
@in_loop
async def test_a_name_that_leads_inside_is_not_dialled(address: str) -> None:
    async with canary() as host, fetcher("cat.test", networks=(), names={"cat.test": [address]}) as fetches:
        error = await refused(fetches, f"http://cat.test:{host.port}/")
        assert (error.status, error.code, host.connects) == (400, "host_not_allowed", 0)


@pytest.mark.parametrize("address", INSIDE)
@in_loop
async def test_an_address_inside_is_not_dialled_where_any_host_is_allowed(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    async with canary() as host, fetcher("*", networks=()) as fetches:
        error = await refused(fetches, f"http://{literal}:{host.port}/")
        assert (error.status, error.code, host.connects) == (400, "host_not_allowed", 0)


@pytest.mark.parametrize("host_as_written", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"])
@in_loop
async def test_the_systems_resolver_is_believed_about_nothing(host_as_written: str) -> None:
    async with canary() as host:
        fetches = Fetcher(Allowed(["*"]))
        assert (await refused(fetches, f"http://{host_as_written}:{host.port}/")).status == 400
        assert host.connects == 0
        await fetches.close()


@in_loop
async def test_one_bad_address_among_good_ones_is_enough() -> None:
    async with canary() as host, fetcher("cat.test", networks=(), names={"cat.test": ["1.1.1.1 127.0.0.1"]}) as fetches:
        assert (await refused(fetches, f"http://cat.test:{host.port}/")).code == "host_not_allowed"
        assert host.connects == 0


@in_loop
async def test_a_name_that_changes_is_dialled_where_it_was_checked() -> None:
    """Rebinding: one look-up for each connection, and the address of that look-up is the one dialled."""
    names = {"cat.test": ["127.0.0.1", "169.254.169.254"]}
    async with canary(lambda *_: response("200 OK", b"x", "Connection: close")) as host:
        async with fetcher("cat.test", names=names) as fetches:
            assert await fetches.fetch(f"http://cat.test:{host.port}/", ignore) == b"x"
            assert host.headers[0]["host"] == f"cat.test:{host.port}"
            assert (await refused(fetches, f"http://cat.test:{host.port}/")).code == "host_not_allowed"
        assert host.connects == 1


@in_loop
async def test_connections_are_kept() -> None:
    async with canary() as host, fetcher("cat.test", names={"cat.test": ["127.0.0.1"]}) as fetches:
        for _ in range(3):
            assert await fetches.fetch(f"http://cat.test:{host.port}/", ignore) == b"a cat"
        assert host.connects == 1


# Redirects.


def moving(location: str, status: str = "302 Found") -> Answer:
    return lambda path, _: (
        response("200 OK", b"here") if path == "/end" else response(status, b"", f"Location: {location}")
    )


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
@in_loop
async def test_a_redirect_is_followed(status: str) -> None:
    async with canary(moving("/end?x=1#y", status)) as host, fetcher("127.0.0.1") as fetches:
        host.answer = lambda path, _: (
            response("200 OK", b"here") if path == "/end?x=1" else moving("/end?x=1#y")(path, {})
        )
        assert await fetches.fetch(f"http://127.0.0.1:{host.port}/a", ignore) == b"here"
        assert host.paths == ["/a", "/end?x=1"]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://localhost:{port}/",
        "//inside.test:{port}/",
        "http://cat.test:{port}\\@inside.test/",
        "http://user@cat.test:{port}/",
        "file:///etc/passwd",
        "gopher://cat.test:{port}/",
        "data:;base64,QUJD",
        "http://[",
        "http://cat.test:99999/",
        "http://cat.test:{port}/ a",
        "http://\xa0/",
    ],
)
@in_loop
async def test_a_redirect_is_checked_like_a_url(location: str) -> None:
    names = {"cat.test": ["127.0.0.1"] * 2, "inside.test": ["127.0.0.1"]}
    async with canary() as host, fetcher("cat.test", names=names) as fetches:
        host.answer = moving(location.format(port=host.port))
        assert (await refused(fetches, f"http://cat.test:{host.port}/")).status == 400
        assert (host.connects, len(host.paths)) == (1, 1)


@in_loop
async def test_a_redirect_to_a_name_that_leads_inside_is_not_dialled() -> None:
    names = {"cat.test": ["127.0.0.1"], "rebound.test": ["127.0.0.2"]}
    async with canary() as host, fetcher("cat.test", "rebound.test", networks=["127.0.0.1/32"], names=names) as fetches:
        host.answer = moving(f"http://rebound.test:{host.port}/")
        assert (await refused(fetches, f"http://cat.test:{host.port}/")).code == "host_not_allowed"
        assert host.connects == 1


@pytest.mark.parametrize("address", METADATA)
@in_loop
async def test_a_redirect_to_metadata_is_not_dialled(address: str) -> None:
    """Hazard S15: by its address, and by a name, where any host and wide networks are allowed."""
    literal = f"[{address}]" if ":" in address else address
    networks = ["127.0.0.0/8", "100.64.0.0/10", "fd00::/8", "::/0"]
    names = {"cat.test": ["127.0.0.1"] * 2, "rebound.test": [address]}
    for location in (f"http://{literal}/latest/meta-data/", "http://rebound.test/"):
        async with canary(moving(location)) as host, fetcher("*", networks=networks, names=names) as fetches:
            assert (await refused(fetches, f"http://cat.test:{host.port}/")).code == "host_not_allowed"
            assert len(host.paths) == 1


@in_loop
async def test_redirects_end() -> None:
    async with canary(moving("/again")) as host, fetcher("127.0.0.1") as fetches:
        assert (await refused(fetches, f"http://127.0.0.1:{host.port}/")).status == 400
        assert len(host.paths) == fetch_module.REDIRECTS_MAX + 1


# Hosts that are unwell.


@in_loop
async def test_a_host_that_fails_once_is_asked_again() -> None:
    async with canary() as host, fetcher("127.0.0.1") as fetches:
        host.answer = lambda *_: response("503 Busy") if len(host.paths) == 1 else response("200 OK", b"x")
        assert await fetches.fetch(f"http://127.0.0.1:{host.port}/", ignore) == b"x"
        assert fetches.statistics().retries == 1


@pytest.mark.parametrize(
    ("answer", "status", "asked"),
    [
        (response("500 Oops"), 502, fetch_module.ATTEMPTS_MAX),
        (response("404 Not Found"), 400, 1),
        (response("403 Forbidden"), 400, 1),
        (response("429 Slow down"), 400, 1),
        (response("304 Not Modified"), 400, 1),
        (response("206 Partial", b"x"), 400, 1),
        (response("300 Choices"), 400, 1),
        (response("200 OK", b"x", "Content-Encoding: gzip"), 400, 1),
    ],
)
@in_loop
async def test_what_a_status_becomes(answer: bytes, status: int, asked: int) -> None:
    async with canary(lambda *_: answer) as host, fetcher("127.0.0.1") as fetches:
        error = await refused(fetches, f"http://127.0.0.1:{host.port}/")
        assert (error.status, len(host.paths)) == (status, asked)
        assert fetches.statistics().failed == 1


@in_loop
async def test_a_body_that_is_too_slow_ends() -> None:
    """Hazard S8: 1 B/s would take a connection and memory for as long as it likes."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "GRACE_SECONDS", 0.0)
        limits.setattr(fetch_module, "RATE_BYTES_MIN", 2**60)
        limits.setattr(fetch_module, "BACKOFF_SECONDS", 0.001)
        async with canary() as host, fetcher("127.0.0.1") as fetches:
            error = await refused(fetches, f"http://127.0.0.1:{host.port}/")
            assert (error.status, len(host.paths)) == (504, fetch_module.ATTEMPTS_MAX)


@in_loop
async def test_a_length_beyond_the_cap_is_not_waited_for() -> None:
    length = f"Content-Length: {fetch_module.MEDIA_BYTES_MAX + 1}"
    async with (
        canary(lambda *_: f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode()) as host,
        fetcher("127.0.0.1") as fetches,
    ):
        assert (await refused(fetches, f"http://127.0.0.1:{host.port}/")).status == 413


@in_loop
async def test_a_host_that_says_nothing_is_left_alone() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "SILENCE_SECONDS", 0.05)
        limits.setattr(fetch_module, "BACKOFF_SECONDS", 0.001)
        async with canary(lambda *_: b"") as host, fetcher("127.0.0.1") as fetches:
            error = await refused(fetches, f"http://127.0.0.1:{host.port}/")
            assert (error.status, len(host.paths)) == (504, fetch_module.ATTEMPTS_MAX)


@in_loop
async def test_a_url_that_is_too_long_is_not_dialled() -> None:
    async with canary() as host, fetcher("127.0.0.1") as fetches:
        url = f"http://127.0.0.1:{host.port}/".ljust(fetch_module.URL_LENGTH_MAX, "a")
        assert await fetches.fetch(url, ignore) == b"a cat"
        assert (await refused(fetches, url + "a")).code == "invalid_url"
        assert len(host.paths) == 1


@in_loop
async def test_what_is_fetched_is_reserved_piece_by_piece() -> None:
    grown: list[int] = []

    def grow(length_bytes: int) -> None:
        grown.append(length_bytes)
        if sum(grown) > 300_000:
            raise overloaded("no room")

    content = bytes(1_000_000)
    async with canary(lambda *_: response("200 OK", content)) as host, fetcher("127.0.0.1") as fetches:
        with pytest.raises(RequestError) as full:
            await fetches.fetch(f"http://127.0.0.1:{host.port}/", grow)
        assert full.value.status == 503
        assert sum(grown) < 600_000
        grown.clear()
        assert await fetches.fetch(f"http://127.0.0.1:{host.port}/", lambda n: grown.append(n)) == content
        assert sum(grown) == len(content)


@in_loop
async def test_one_host_is_asked_only_so_often_at_a_time() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "HOST_FETCHES_MAX", 2)
        async with canary() as host, fetcher("127.0.0.1") as fetches:
            urls = [f"http://127.0.0.1:{host.port}/{number}" for number in range(12)]
            assert await asyncio.gather(*(fetches.fetch(url, ignore) for url in urls)) == [b"a cat"] * 12
            assert host.most == 2
            assert not len(fetches._hosts) + len(fetches._tenants)


@in_loop
async def test_a_tenants_slow_fetches_hold_up_no_other_tenant() -> None:
    """A18: eight fetches of one host that trickle delayed everybody's from it, here for good."""
    full, stuck = asyncio.Event(), asyncio.Event()

    class Stuck(Canary):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                self.paths.append(head.split()[1].decode())
                if len(self.paths) == fetch_module.HOST_FETCHES_MAX:
                    full.set()
                if head.startswith(b"GET /slow"):
                    await stuck.wait()
                writer.write(response("200 OK", b"a cat", "Connection: close"))
                await writer.drain()
            finally:
                writer.close()

    host = Stuck(lambda *_: b"")
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, fetcher("127.0.0.1") as fetches:
        slow = [asyncio.create_task(fetches.fetch(f"{url}/slow", ignore, tenant="a")) for _ in range(40)]
        try:
            await full.wait()
            assert await fetches.fetch(f"{url}/quick", ignore, tenant="b") == b"a cat"
            assert len(host.paths) == fetch_module.HOST_FETCHES_MAX + 1
        finally:
            stuck.set()
            fetched = await asyncio.gather(*slow, return_exceptions=True)
        assert fetched == [b"a cat"] * 40


@in_loop
async def test_a_tenant_takes_only_so_many_connections() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "TENANT_FETCHES_MAX", 2)
        names = {f"{number}.test": ["127.0.0.1"] for number in range(12)}
        async with canary() as host, fetcher("*", names=names) as fetches:
            urls = [f"http://{number}.test:{host.port}/" for number in range(12)]
            assert await asyncio.gather(*(fetches.fetch(url, ignore) for url in urls)) == [b"a cat"] * 12
            assert host.most == 2


@in_loop
async def test_what_a_failed_attempt_reserved_is_used_again() -> None:
    """A host that breaks off twice after most of a file: once the file is reserved, not three times."""
    grown: list[int] = []
    content = bytes(300_000)

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            tries.append(None)
            writer.write(response("200 OK", content)[: None if len(tries) == 3 else 250_000])
            await writer.drain()
            await reader.read()  # until it is left alone
        finally:
            writer.close()

    tries: list[None] = []
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fetch_module, "SILENCE_SECONDS", 0.2)
        limits.setattr(fetch_module, "BACKOFF_SECONDS", 0.001)
        server = await asyncio.start_server(breaking, "127.0.0.1", 0)
        async with server, fetcher("127.0.0.1") as fetches:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            assert await fetches.fetch(url, grown.append) == content
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    assert len(tries) == 3
    assert sum(grown) == len(content)


# Names that are slow to resolve.


@in_loop
async def test_slow_names_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own getaddrinfo has four threads for all, and a name that is not answered holds one for long."""
    free, asked = threading.Event(), []

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        if host.startswith("slow") and not free.wait(60):
            raise OSError("nobody ended the test")
        return [(None, None, None, "", ("1.2.3.4", port))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    resolver = Resolver()
    try:
        slow = [asyncio.create_task(resolver(f"slow{number % 6}", 80)) for number in range(60)]
        while len(asked) < 12:  # noqa: ASYNC110 - threads count
            await asyncio.sleep(0)
        assert await resolver("quick", 80) == [ip_address("1.2.3.4")], "the same tenant's"
        for task in slow[30:]:
            task.cancel()
        assert len(asked) == 6 * SUBJECT_THREADS_MAX + 1
    finally:
        free.set()
    assert await asyncio.gather(*slow[:30]) == [[ip_address("1.2.3.4")]] * 30
    await asyncio.gather(*slow, return_exceptions=True)


# Files that were here before.


def tagged(etag: str, *headers: str) -> Answer:
    def answer(_: str, asked: dict[str, str]) -> bytes:
        if asked.get("if-none-match") == etag:
            return response("304 Not Modified")
        return response("200 OK", b"tagged", f"ETag: {etag}", *headers)

    return answer


@in_loop
async def test_a_file_with_an_etag_is_not_sent_twice() -> None:
    async with canary(tagged('"1"')) as host, fetcher("127.0.0.1") as fetches:
        grown: list[int] = []
        for _ in range(2):
            assert await fetches.fetch(f"http://127.0.0.1:{host.port}/", grown.append) == b"tagged"
        assert fetches.statistics().not_modified == 1
        assert grown == [6, 6], "kept or not, the request holds it"
        host.answer = lambda *_: response("200 OK", b"new")
        assert await fetches.fetch(f"http://127.0.0.1:{host.port}/", ignore) == b"new"
        host.answer = tagged('"1"')
        assert await fetches.fetch(f"http://127.0.0.1:{host.port}/other", ignore) == b"tagged"
        assert "if-none-match" not in host.headers[-1]


@in_loop
async def test_a_file_that_must_not_be_kept_is_not() -> None:
    async with canary(tagged('"1"', "Cache-Control: private, NO-STORE")) as host, fetcher("127.0.0.1") as fetches:
        for _ in range(2):
            assert await fetches.fetch(f"http://127.0.0.1:{host.port}/", ignore) == b"tagged"
        assert fetches.statistics().not_modified == 0


@in_loop
async def test_whoever_leaves_leaves_no_connection() -> None:
    """Whenever it leaves: httpcore lost a connection for good when its task was cancelled as it took a lock."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        host = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        host.setblocking(False)
        fetches = Fetcher(Allowed(["127.0.0.1"]))
        stack.push_async_callback(fetches.close)
        for turns in range(TURNS):
            fetch = asyncio.create_task(fetches.fetch(f"http://127.0.0.1:{host.getsockname()[1]}/", ignore))
            connection, _ = await loop.sock_accept(host)
            with connection:
                for _ in range(turns):
                    await asyncio.sleep(0)
                fetch.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await fetch
                while await loop.sock_recv(connection, 65536):
                    pass  # the request, then the end
            assert fetches._pool.connections == [], f"it left {turns} turns after the connection"
