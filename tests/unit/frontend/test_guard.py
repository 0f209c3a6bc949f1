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
    await Guard(app, ["mm.test", "10.0.0.5"])({"type": "http", "headers": raw}, receive, send)
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
