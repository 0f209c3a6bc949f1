"""Checks of Host and Origin: requests must use a name of this server, and not come from other sites (hazard S2).

Any web page in a browser on this machine can send requests to loopback. A page cannot choose `Host`, `Origin` or
`Sec-Fetch-Site`: a name that was rebound to 127.0.0.1 is in `Host`, and a post from another site has that site in
`Origin`. Programs send the name that they connected to, and no `Origin`.

Pages of some other sites may be allowed (`--allow-origin`), but only for routes below `/v1/`. Browsers ask before they
send (CORS), which needs no key, and each answer repeats the permission.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmplane.core.errors import RequestError
from mmplane.frontend.http.reply import Reply

ANY = "*"
SHARED = "/v1/"
"""Prefix of the routes that pages of other sites may use."""
PREFLIGHT_SECONDS = 600
EXPOSED = b"x-request-id, retry-after"


class Guard:
    """Refuses with 403 before any of the request's body is read. `hosts` are names of this server beside loopback's.

    If there are none, any name is accepted: with API keys, a page behind a rebound name has no key. `origins` are the
    sites whose pages may send requests, as `https://chat.example.com`; `*` allows all.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None, origins: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer 403."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin")
        if origin is not None and self._shares(scope["path"], origin) and (not host or self._is_ours(host)):
            await self._share(origin, headers, scope, receive, send)
            return
        if host and not self._is_ours(host):
            refusal = RequestError(
                403, "host_forbidden", "the Host header is not a name of this server (see --allow-host)"
            )
        elif (origin is not None and not _same(origin.decode("latin-1"), host)) or (
            headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        ):
            text = "this server does not accept requests from pages of other sites (see --allow-origin)"
            refusal = RequestError(403, "origin_forbidden", text)
        else:
            await self._app(scope, receive, send)
            return
        await Reply(send).error(refusal)

    def _shares(self, path: str, origin: bytes) -> bool:
        """Whether a page of this site may use this route."""
        allowed = ANY in self._origins or origin.decode("latin-1").lower() in self._origins
        return allowed and path.startswith(SHARED)

    async def _share(
        self, origin: bytes, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Allow the browser to show the answer to its page, or answer the browser's preflight request."""
        told = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]

        async def send_shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                exposed = (b"access-control-expose-headers", EXPOSED)
                message["headers"] = [*message.get("headers", ()), *told, exposed]
            await send(message)

        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
            await self._app(scope, receive, send_shared)
            return
        wanted = headers.get(b"access-control-request-headers", b"")
        told += [
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", wanted),
            (b"access-control-allow-private-network", b"true"),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": told})
        await send({"type": "http.response.body", "body": b""})

    def _is_ours(self, host: str) -> bool:
        name = _name(f"//{host}")
        if self._hosts is None or name == "localhost" or name in self._hosts:
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False


def _same(origin: str, host: str) -> bool:
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
