"""Fetches media from other hosts. Both the client and the host may be hostile (hazards S3, S8).

    check the URL ─> connect to a checked address ─> 200: read to the end        within FETCH_SECONDS in total
         ^                                           3xx: the redirect, checked in the same way
         └──────── 5xx or too slow: once more, later

httpcore is used directly, because higher-level clients read proxies from the environment, follow redirects and
decompress.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

import anyio
import httpcore
import msgspec

from mmplane.core.errors import RequestError, bad_media, bad_request, too_large
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.dial import TENANT, CheckedBackend, Resolve, Resolver
from mmplane.frontend.sources.fetched import Fetched, FetchedFiles
from mmplane.items.parked import LONG_BYTES
from mmplane.observe.context import OUTGOING
from mmplane.waiting.gates import Gates

ResultT = TypeVar("ResultT")

FETCH_SECONDS = 20.0
"""Time limit for one file, with all its redirects and attempts."""
SILENCE_SECONDS = 5.0
"""Time limit for one connect, and between two pieces of an answer."""
RATE_BYTES_MIN = 16 * 1024
"""Minimum average rate once a body has taken longer than `GRACE_SECONDS`."""
GRACE_SECONDS = 2.0
ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.1
REDIRECTS_MAX = 3
MEDIA_BYTES_MAX = 64 * 1024 * 1024
CONNECTIONS_MAX = 128
TENANT_FETCHES_MAX = 32
"""Concurrent fetches of one tenant; more wait their turn."""
HOST_FETCHES_MAX = 8
"""Of those, from one host."""
URL_LENGTH_MAX = 8192

Grow = Callable[[int], None]
"""Reserves this many more bytes, or raises RequestError."""


class FetchStatistics(msgspec.Struct):
    """Counts since the start."""

    fetched: int = 0
    fetched_bytes: int = 0
    not_modified: int = 0
    retries: int = 0
    failed: int = 0


class _TryAgain(Exception):
    """The host failed in a way that may be temporary; `error` is raised if it keeps failing."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.message)
        self.error = error


class _Reserved:
    """The bytes that one fetch has reserved; an attempt reuses what the one before it reserved."""

    def __init__(self, grow: Grow) -> None:
        self._grow = grow
        self._reserved_bytes = self._used_bytes = 0

    def restart(self) -> None:
        """The attempt failed, and the data that it read has been dropped."""
        self._used_bytes = 0

    def take(self, length_bytes: int) -> None:
        """Use this many more bytes. Raises RequestError if they cannot be reserved."""
        more_bytes = self._used_bytes + length_bytes - self._reserved_bytes
        if more_bytes > 0:
            self._grow(more_bytes)
            self._reserved_bytes += more_bytes
        self._used_bytes += length_bytes


class Fetcher:
    """Fetches over HTTP from the hosts that the operator allows."""

    def __init__(self, allowed: Allowed, *, resolve: Resolve | None = None) -> None:
        self._allowed = allowed
        self._files = FetchedFiles()
        self._hosts = Gates(HOST_FETCHES_MAX)
        self._tenants = Gates(TENANT_FETCHES_MAX)
        self._statistics = FetchStatistics()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX // 4,
            keepalive_expiry=15.0,
            http2=True,
            network_backend=CheckedBackend(allowed, resolve or Resolver()),
        )

    async def fetch(self, url: str, grow: Grow, *, tenant: str = "") -> bytes | memoryview:
        """Return the file at `url`, in this tenant's turn; `grow` is called for each piece before it is stored.

        Raises RequestError: 400 if the URL is not allowed or there is no such file, 413 if the file is too large, 502
        if the host fails, 504 if it is too slow.
        """
        TENANT.set(tenant)
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                content = await _in_scope(self._insist(url, _Reserved(grow)))
        except TimeoutError:
            self._statistics.failed += 1
            raise too_slow() from None
        except RequestError:
            self._statistics.failed += 1
            raise
        self._statistics.fetched += 1
        self._statistics.fetched_bytes += len(content)
        return content

    def statistics(self) -> FetchStatistics:
        """Number of fetches, bytes, and errors."""
        return self._statistics

    async def close(self) -> None:
        """Close pooled connections."""
        await self._pool.aclose()

    async def _insist(self, url: str, reserved: _Reserved) -> bytes | memoryview:
        for attempt in range(ATTEMPTS_MAX):
            reserved.restart()
            try:
                return await self._follow(url, reserved)
            except _TryAgain as failed:
                if attempt + 1 == ATTEMPTS_MAX:
                    raise failed.error from None
            self._statistics.retries += 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * BACKOFF_SECONDS * 2**attempt)  # noqa: S311 - jitter
        raise AssertionError

    async def _follow(self, url: str, reserved: _Reserved) -> bytes | memoryview:
        for _ in range(REDIRECTS_MAX + 1):
            content, location = await self._hop(url, reserved)
            if location is None:
                return content
            try:
                url = urljoin(url, location)
            except ValueError:
                raise bad_request("invalid_url", "the media's host sent a redirect without a URL") from None
        raise bad_media("the media's host redirects too often")

    async def _hop(self, url: str, reserved: _Reserved) -> tuple[bytes | memoryview, str | None]:
        """Send one request; return the content, or the URL of a redirect."""
        target = self._target(url)
        kept = self._files.get(url)
        headers = [("host", _host(target)), ("accept", "*/*"), ("accept-encoding", "identity")]
        if traceparent := OUTGOING.get():
            headers.append(("traceparent", traceparent))
        if kept is not None:
            headers.append(("if-none-match", kept.etag))
        limits = {"connect": SILENCE_SECONDS, "read": SILENCE_SECONDS, "write": SILENCE_SECONDS, "pool": FETCH_SECONDS}
        try:
            async with (
                self._hosts.turn((TENANT.get(), _host(target))),
                self._tenants.turn(TENANT.get()),  # a request that waits for a host must not occupy a place here
                self._pool.stream("GET", target, headers=headers, extensions={"timeout": limits}) as response,
            ):
                if 300 <= response.status < 400 and (location := _header(response, b"location")):
                    return b"", location
                if response.status == 304 and kept is not None:
                    reserved.take(len(kept.content))
                    self._statistics.not_modified += 1
                    return kept.content, None
                _check_status(response)
                content = await _read(response, reserved)
        except httpcore.TimeoutException:
            raise _TryAgain(too_slow()) from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise RequestError(502, "fetch_failed", "the media could not be fetched") from None
        self._remember(url, response, content)
        return content, None

    def _target(self, url: str) -> httpcore.URL:
        """Parse and check `url`, so that no other code parses it again. Raises RequestError (400)."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise bad_request("invalid_url", "the media's URL cannot be parsed") from None
        if parts.scheme not in ("http", "https"):
            raise bad_request("invalid_url", "a media URL must be a data URI or http(s)")
        if len(url) > URL_LENGTH_MAX or "\\" in url or any(character <= " " for character in url):
            raise bad_request("invalid_url", "the media's URL is not a plain one")
        if "@" in parts.netloc or "%" in host or not host.isascii() or not self._allowed.names(host):
            raise bad_request("host_not_allowed", "this server does not fetch media from that host")
        target = _quoted(parts.path or "/") + ("?" + _quoted(parts.query) if parts.query else "")
        return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)

    def _remember(self, url: str, response: httpcore.Response, content: bytes | memoryview) -> None:
        etag = _header(response, b"etag")
        if etag and "no-store" not in (_header(response, b"cache-control") or "").lower():
            self._files.keep(url, Fetched(etag, content))
        else:
            self._files.forget(url)


async def _in_scope(call: Coroutine[None, None, ResultT]) -> ResultT:
    """Return what the call returns. If the caller is cancelled, cancel the call through anyio.

    If a task is cancelled while httpcore takes its lock, an open connection stays in the pool for ever. Cancellation of
    an anyio scope waits until the lock is taken, and then httpcore closes the connection.
    """
    scope = anyio.CancelScope()

    async def inside() -> ResultT:
        with scope:
            return await call
        raise asyncio.CancelledError

    running = asyncio.create_task(inside())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait((running,))
        raise


def _quoted(text: str) -> str:
    """Percent-encode text for a URL; what the client has already quoted stays as it is."""
    return quote(text, safe="%/?:@!$&'()*+,;=~", errors="replace")


def too_slow() -> RequestError:
    """504: the media was not sent in time."""
    return RequestError(504, "fetch_timeout", "the media's host did not answer in time")


def _header(response: httpcore.Response, name: bytes) -> str | None:
    values = [value for header, value in response.headers if header.lower() == name]
    return values[0].decode("latin-1") if values else None


def _host(target: httpcore.URL) -> str:
    host = target.host.decode()
    name = f"[{host}]" if ":" in host else host
    return name if target.port is None else f"{name}:{target.port}"


def _check_status(response: httpcore.Response) -> None:
    if response.status >= 500:
        raise _TryAgain(RequestError(502, "fetch_failed", "the media's host failed"))
    if response.status != 200:
        raise bad_media(f"the media's host answered {response.status}")
    if (_header(response, b"content-encoding") or "identity").lower() != "identity":
        raise bad_media("the media's host sent compressed bytes that were not asked for")


async def _read(response: httpcore.Response, reserved: _Reserved) -> bytes | memoryview:
    started_s = time.monotonic()
    content = bytearray()
    declared = _header(response, b"content-length") or ""
    if declared.isdigit() and int(declared[:20]) > MEDIA_BYTES_MAX:
        raise too_large("the media is too large")
    async for chunk in response.aiter_stream():
        if len(content) + len(chunk) > MEDIA_BYTES_MAX:
            raise too_large("the media is too large")
        reserved.take(len(chunk))
        content += chunk
        taken_s = time.monotonic() - started_s
        if taken_s > GRACE_SECONDS and len(content) < RATE_BYTES_MIN * taken_s:
            raise _TryAgain(too_slow())
    return bytes(content) if len(content) <= LONG_BYTES else memoryview(content).toreadonly()
