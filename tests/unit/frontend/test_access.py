"""Access: without a key nothing but `/health`, with a tenant's its own routes, with the operator's everything."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mmplane.frontend.app as app_module
import mmplane.frontend.server as server_module
from frontend_loop import in_loop
from mmplane.core.errors import RequestError
from mmplane.core.keyring import SALT_BYTES, Caller, Keyring, parse_keyring
from mmplane.frontend.http import access
from mmplane.frontend.http.access import Access, presented, tenant_of

OPERATOR, ALICE = b"operators-long-key", b"alices-long-key"
KEYRING = parse_keyring(f"{OPERATOR.decode()}\nalice:{ALICE.decode()}", salt=bytes(SALT_BYTES))
ROUTES = [
    route
    for module in (app_module, server_module)
    for route in re.findall(r'Route\("([^"]+)"', Path(module.__file__).read_text())
]
TENANTS_OWN = ("/v1/completions", "/v1/models", "/ping", "/ready", "/version")
ELSEWHERE = ["/", "/nowhere", "/v1", "/v1/", "/health/", "//health", "/HEALTH", "/health/../metrics", "/v1/modelsx"]


async def ask(path: str, authorization: bytes | None = None, kind: type[Access] = Access) -> tuple[int, Any, list[Any]]:
    """(status, tenant or error object, headers)"""
    sent: list[Any] = []
    seen: list[str] = []

    async def app(scope: Any, _: Any, send: Any) -> None:
        seen.append(tenant_of(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if authorization is None else [(b"authorization", authorization)]
    await kind(app, KEYRING)({"type": "http", "path": path, "headers": headers}, receive, send)
    said = seen[0] if seen else msgspec.json.decode(sent[1]["body"])["error"]
    return sent[0]["status"], said, sent[0]["headers"]


async def check_strangers(kind: type[Access] = Access) -> None:
    for path in [*ROUTES, *ELSEWHERE]:
        for authorization in (
            None,
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer wrong",
            b"Basic !",
            OPERATOR,
            b"bearer x" * 99,
        ):
            status, said, headers = await ask(path, authorization, kind)
            if path == "/health":
                assert status == 200
            else:
                assert status == 401, path
                assert said["type"] == "invalid_request_error"
                assert said["code"] in ("missing_api_key", "invalid_api_key")
                assert (b"www-authenticate", b'Bearer realm="mmplane"') in headers


async def check_tenants(kind: type[Access] = Access) -> None:
    for path in [*ROUTES, *ELSEWHERE]:
        status, said, _ = await ask(path, b"Bearer " + ALICE, kind)
        if path == "/health":
            assert (status, said) == (200, "")
        elif path in TENANTS_OWN or path.startswith(("/v1/chat/", "/v1/models/")):
            assert (status, said) == (200, "alice"), path
        else:
            assert (status, said["code"]) == (403, "operator_only"), path


@in_loop
async def test_without_a_key_only_health() -> None:
    assert len(ROUTES) > 5
    await check_strangers()


@in_loop
async def test_a_tenants_key_opens_what_is_the_tenants() -> None:
    await check_tenants()


@in_loop
async def test_the_operators_key_opens_everything() -> None:
    for path in [*ROUTES, *ELSEWHERE]:
        assert (await ask(path, b"Bearer " + OPERATOR))[:2] == (200, "")
        assert (await ask(path, b"basic " + b64encode(b"x:" + OPERATOR)))[:2] == (200, "")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Bearer k", b"k"),
        (b"BEARER   k ", b"k"),
        (b"Basic " + b64encode(b"user:k:k"), b"k:k"),
        (b"Basic " + b64encode(b"user"), None),
        (b"Digest k", None),
        (b"k", None),
        (b"Basic \xff", None),
    ],
)
def test_where_a_key_may_stand(header: bytes, key: bytes | None) -> None:
    assert presented(header) == key


class OpenByPrefix(Access):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/health"):
            await self._app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class OnlyGuardsV1(Access):
    """CVE-2025-59425's neighbour: a list of what is shut."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/v1"):
            await super().__call__(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class TakesAnyKey(Access):
    def _admit(self, scope: Any) -> Caller:
        if presented(dict(scope["headers"]).get(b"authorization", b"")) is None:
            raise RequestError(401, "missing_api_key", "no key")
        return Caller()


class EverybodyIsTheOperator(Access):
    def _admit(self, scope: Any) -> Caller:
        super()._admit(scope | {"path": "/ready"})
        return Caller()


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (OpenByPrefix, check_strangers),
        (OnlyGuardsV1, check_strangers),
        (TakesAnyKey, check_strangers),
        (EverybodyIsTheOperator, check_tenants),
    ],
)
@in_loop
async def test_mutants(mutant: type[Access], check: Callable[[type[Access]], Awaitable[None]]) -> None:
    with pytest.raises((AssertionError, KeyError, TypeError)):
        await check(mutant)


def test_what_is_open_is_named_here_too() -> None:
    assert {"/health"} == access.OPEN
    assert set(ROUTES) >= access.TENANTS


@in_loop
async def test_a_route_that_the_operator_opens() -> None:
    def opened(app: Any, keyring: Keyring) -> Access:
        return Access(app, keyring, ("/ready",))

    assert (await ask("/ready", None, opened))[:2] == (200, "")  # type: ignore[arg-type]
    assert (await ask("/metrics", None, opened))[0] == 401  # type: ignore[arg-type]
