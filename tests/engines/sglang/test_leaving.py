"""Clients that go away: nothing is left, and nobody else notices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
from PIL import Image
from sglang_live import SGLang, body, is_alive, part, text
from sglang_work import GOOD

from polling import until

LIMIT_S = 120.0
ABORTS = 200
AT_ONCE = 8


def leave(server: SGLang, at: int) -> None:
    """Ask about a picture, one of forty, and go away: at once, after a moment, or with the first bytes."""
    picture = part(Image.new("RGB", (140 + 28 * (at % 8), 140), (at % 40 * 6, 0, 99)))
    asked = body([picture, text("Go on.")], stream=True, max_tokens=200, ignore_eos=True)
    with (
        suppress(httpx.TimeoutException),
        httpx.Client(base_url=server.http.base_url, timeout=0.1 * (at % 3) + 0.05) as client,
        client.stream("POST", "/v1/chat/completions", json=asked) as response,
    ):
        next(response.iter_bytes())


def test_two_hundred_clients_go_away(server: SGLang) -> None:
    expected = server.answers(GOOD)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in threads.map(lambda at: leave(server, at), range(ABORTS)):
            pass
    assert server.answers(GOOD) == expected
    until(lambda: server.figures()["arena_leases"] == 0, LIMIT_S, "no rank holds a lease")
    until(lambda: server.figures()["arena_leased_bytes"] == 0, LIMIT_S, "nor does the tokenizer")
    assert all(map(is_alive, server.processes))
    until(lambda: server.segments() == [], LIMIT_S, "what went by SGLang's own way is read or thrown away")
