"""Browsers: a rebound name and a page of another site are refused before anything is read; programs are not."""

from __future__ import annotations

from typing import Any

import pytest

from frontend_loop import in_loop
from mmplane.frontend.http.guard import Guard


async def status(**headers: str) -> int:
    sent: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await Guard(app, ["mm.test", "10.0.0.5"])({"type": "http", "path": "/v1/models", "headers": raw}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "mm.test", "MM.test:80", "10.0.0.5"],
)
@in_loop
async def test_our_names(host: str) -> None:
    assert await status(host=host) == 200
    assert await status(host=host, origin=f"http://{host}", sec_fetch_site="same-origin") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:8000",
        "localhost.evil.test",
        "127.0.0.1.nip.io",
        "169.254.1.1",
        "[",
        "a@evil.test",
        "mm.test.",
    ],
)
@in_loop
async def test_names_that_are_not_ours(host: str) -> None:
    """A page of evil.test, whose name now says 127.0.0.1, can send nothing but its own name here."""
    assert await status(host=host) == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.test", "null", "http://localhost:8001", "https://localhost", "http://localhost:8000.evil.test", ""],
)
@in_loop
async def test_pages_of_other_sites(origin: str) -> None:
    assert await status(host="localhost:8000", origin=origin) == 403


@in_loop
async def test_what_the_browser_says_of_itself_counts_too() -> None:
    assert await status(host="localhost", sec_fetch_site="cross-site") == 403
    assert await status(host="localhost", sec_fetch_site="none") == 200, "typed into the address bar"


@in_loop
async def test_http_1_0_has_no_host() -> None:
    assert await status() == 200
    assert await status(origin="http://evil.test") == 403


CHAT = "https://chat.test"


async def answer(path: str, method: str = "POST", origins: tuple[str, ...] = (CHAT,), **headers: str) -> Any:
    """(status, headers) of a request with keys in the way: 401 is what lies behind the guard."""
    sent: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    await Guard(app, ["mm.test"], origins)(scope, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"])


@in_loop
async def test_a_page_that_may_ask_is_told_so_with_every_answer() -> None:
    for origins in ((CHAT,), ("*",)):
        asked = {"host": "mm.test", "origin": CHAT, "sec_fetch_site": "cross-site"}
        status, headers = await answer("/v1/models", origins=origins, **asked)
        assert (status, headers[b"access-control-allow-origin"], headers[b"vary"]) == (401, CHAT.encode(), b"origin")
        assert b"x-request-id" in headers[b"access-control-expose-headers"]


@in_loop
async def test_a_browser_asks_first_and_needs_no_key() -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,content-type"}
    status, headers = await answer("/v1/chat/completions", "OPTIONS", host="mm.test", origin=CHAT, **asked)
    assert (status, headers[b"access-control-allow-origin"]) == (204, CHAT.encode())
    assert headers[b"access-control-allow-headers"] == b"authorization,content-type"
    assert b"POST" in headers[b"access-control-allow-methods"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/models", {"host": "mm.test", "origin": "https://evil.test"}),
        ("/v1/models", {"host": "mm.test", "origin": "https://chat.test.evil.test"}),
        ("/v1/models", {"host": "mm.test", "origin": "http://chat.test"}),
        ("/v1/models", {"host": "evil.test", "origin": CHAT}),
        ("/v1/models", {"host": "mm.test", "sec_fetch_site": "cross-site"}),
        ("/admin/delivery", {"host": "mm.test", "origin": CHAT}),
        ("/metrics", {"host": "mm.test", "origin": CHAT}),
    ],
)
@in_loop
async def test_other_pages_and_other_routes_stay_shut(path: str, asked: dict[str, str]) -> None:
    for method in ("GET", "OPTIONS"):
        status, headers = await answer(path, method, access_control_request_method="PUT", **asked)
        assert (status, headers.get(b"access-control-allow-origin")) == (403, None)
