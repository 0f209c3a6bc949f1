"""Checks of API keys: once there are keys, only `/health` and the routes of `--open-route` work without one.

    Authorization: Bearer KEY             OpenAI's clients
    Authorization: Basic base64(x:KEY)    clients that only support passwords: browsers, for the page at `/`; Prometheus

The check runs before the routes and only has a list of the open ones, so a new route is closed by default. Tenants may
chat. Metrics and switches show or affect other tenants, so they need a key of the operator.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from mmplane.core.errors import RequestError
from mmplane.core.keyring import Caller, Keyring
from mmplane.frontend.http.reply import Reply

OPEN = frozenset({"/health"})
TENANTS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/chat/completions/render",
        "/v1/completions",
        "/v1/models",
        "/ping",
        "/ready",
        "/version",
    }
)
MODEL = "/v1/models/"
"""One model: its name follows this prefix."""
_CALLER = "mmplane.caller"


class Access:
    """Refuses with 401 or 403 before any of the request's body is read, and records which tenant sent the request."""

    def __init__(self, app: ASGIApp, keyring: Keyring, open_routes: Iterable[str] = ()) -> None:
        self._app = app
        self._keyring = keyring
        self._open = OPEN | set(open_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer it."""
        if scope["path"] not in self._open:
            try:
                scope[_CALLER] = self._admit(scope)
            except RequestError as refusal:
                await Reply(send).error(refusal)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        key = presented(dict(scope["headers"]).get(b"authorization", b""))
        if key is None:
            raise RequestError(401, "missing_api_key", "this server needs an API key: Authorization: Bearer KEY")
        caller = self._keyring.caller(key)
        if caller is None:
            raise RequestError(401, "invalid_api_key", "this server does not know that API key")
        if not (caller.operator or scope["path"] in TENANTS or scope["path"].startswith(MODEL)):
            raise RequestError(403, "operator_only", "this route needs a key of the operator")
        return caller


def tenant_of(scope: Scope) -> str:
    """The tenant of the request; without keys all clients are the tenant without a name."""
    caller: Caller = scope.get(_CALLER) or Caller()
    return caller.tenant


def presented(authorization: bytes) -> bytes | None:
    """Return the key in this header, whether valid or not; None if there is none."""
    scheme, _, rest = authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip() or None
    if scheme.lower() == b"basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[2] or None
        except (binascii.Error, ValueError):
            return None
    return None
