"""Connects for a client: resolves a name once, checks every address, and connects to one that was checked.

httpcore calls this for each new connection, so the checked address is the one that is used, even if the name resolves
to another one a moment later. TLS and `Host` still use the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any

import httpcore

from mmplane.core.errors import bad_request
from mmplane.frontend.sources.addresses import Address, Allowed
from mmplane.waiting.threads import Threads

ADDRESSES_MAX = 3
"""Number of addresses of one name that are tried."""

Resolve = Callable[[str, int], Awaitable[list[Address]]]


TENANT: ContextVar[str] = ContextVar("tenant", default="")
"""The tenant for whom a name is resolved, because httpcore has no argument for it."""


class Resolver:
    """Return the addresses that the system's resolver returns, each once.

    It is called in its own threads: the loop's getaddrinfo has four threads for everything, and a host whose name
    servers do not answer would occupy one for many seconds.
    """

    def __init__(self) -> None:
        self._threads = Threads("resolve")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Resolve a name. Raises OSError."""
        found = await self._threads.call(TENANT.get(), host, _getaddrinfo, host, port)
        return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def _getaddrinfo(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """TCP, but only to addresses that `allowed` allows. Raises RequestError (400) otherwise."""

    def __init__(self, allowed: Allowed, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first checked address of `host` that answers."""
        failed: Exception = httpcore.ConnectError("no address")
        for address in (await self._addresses(host, port, timeout))[:ADDRESSES_MAX]:
            try:
                return await self._tcp.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Not supported: no URL leads to a UNIX socket."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """Sleep; part of httpcore's interface."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, limit_s: float | None) -> list[Address]:
        try:
            async with asyncio.timeout(limit_s):
                addresses = await self._resolve(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        except (OSError, ValueError):
            raise httpcore.ConnectError from None
        if not all(self._allowed.dials(address) for address in addresses):
            raise bad_request("host_not_allowed", "this server does not fetch media from that host")
        return addresses
