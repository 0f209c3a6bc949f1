"""Two tenants of a real server: whatever one of them does, the other one is served (R19, R23)."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from live import Live, serving
from pictures import noise, part, text

from polling import until

OPERATOR, ALICE, BOB = (f"sk-{secrets.token_hex(16)}" for _ in range(3))
RUNNING_MAX = 4
LONG = 6000
"""Tokens of an answer that outlives every test here."""
seeds = count(93_000)


@pytest.fixture(scope="module")
def shared(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Few seats, and requests that must begin soon. Its ranks compute nothing, so an answer's length is its time."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{OPERATOR}\nalice:{ALICE}\nbob:{BOB}\n")
    flags = ("--api-key-file", str(keys), "--running-max", str(RUNNING_MAX), "--queue-max", "28")
    flags += ("--request-seconds", "8", "--runner", "sim:20", "--fault-injection", "on")
    with serving(tiny_folder, *flags) as live:
        live.http.headers["authorization"] = f"Bearer {OPERATOR}"
        yield live


def body(*content: Any, **fields: Any) -> dict[str, Any]:
    question = {"role": "user", "content": list(content) or "Hi"}
    return {"model": "tiny", "max_tokens": 2, "temperature": 0, "messages": [question]} | fields


def ask(live: Live, key: str, *content: Any, **fields: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{live.url}/v1/chat/completions", json=body(*content, **fields), headers=headers, timeout=60)


@contextmanager
def announced(live: Live, key: str, length_bytes: int, sent: bytes = b"") -> Iterator[socket.socket]:
    """A connection that announces a body and sends no more of it than this."""
    address = urlsplit(live.url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer {key}\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(f"{head}content-length: {length_bytes}\r\n\r\n".encode() + sent)
        yield connection


@contextmanager
def long_answers(live: Live, key: str, answers: int) -> Iterator[None]:
    """So many streams that nobody hurries; each has begun, or waits for a seat."""
    content = json.dumps(body(max_tokens=LONG, stream=True, mmplane={"ignore_eos": True})).encode()
    with ExitStack() as stack:
        for _ in range(answers):
            stack.enter_context(announced(live, key, len(content), content))
        until(lambda: live.statistics()["ranks"]["in_flight"] >= answers, 60.0, "the ranks have them")
        yield


def running(live: Live) -> int:
    """Samples that decode, as the ranks last said."""
    count: int = live.statistics()["ranks"]["progress"]["running"]
    return count


def test_a_tenant_that_announces_much_and_sends_nothing(shared: Live) -> None:
    """A4: all tenants' waiters were counted against one limit, and one tenant's were as many."""
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(announced(shared, ALICE, 64 * 2**20))
        until(lambda: shared.statistics()["budget"]["waiting"] > 0, 60.0, "she waits for herself")
        answers = [ask(shared, BOB) for _ in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20


def test_a_tenant_whose_answers_are_long(shared: Live) -> None:
    """She has half of the seats however many she asks for, so another one's request waits for none of her answers."""
    with long_answers(shared, ALICE, 2 * RUNNING_MAX):
        answers = [ask(shared, BOB) for _ in range(5)]
        until(lambda: running(shared) == RUNNING_MAX // 2, 60.0, "hers go on, and no more of them than her share")
    assert [answer.status_code for answer in answers] == [200] * 5


def test_a_tenant_that_has_all_its_seats_is_told_so_in_time(shared: Live) -> None:
    """--request-seconds: what waits for a seat is refused, and the seats are not lost."""
    with long_answers(shared, ALICE, RUNNING_MAX // 2):
        refused = ask(shared, ALICE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert ask(shared, BOB).status_code == 200
    assert ask(shared, ALICE).status_code == 200


def test_what_was_computed_for_a_tenant_serves_no_other(shared: Live) -> None:
    question = text(f"Nobody else asks about {' '.join(map(str, range(60)))}.")

    def cached(key: str) -> int:
        count: int = ask(shared, key, question).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return count

    assert cached(ALICE) == 0
    assert cached(ALICE) > 0
    assert cached(BOB) == 0


def test_a_server_whose_seats_are_all_taken_is_ready(shared: Live) -> None:
    """R23 (A9): a probe would wait behind long answers, and a balancer would remove every saturated replica."""
    half = RUNNING_MAX // 2
    with long_answers(shared, ALICE, half), long_answers(shared, BOB, half):
        before = shared.statistics()["plane"]["materialisations"]
        for _ in range(20):
            assert shared.http.get("/ready").status_code == 200
        until(lambda: running(shared) == RUNNING_MAX, 60.0, "all seats are taken")
        assert shared.http.get("/ready").status_code == 200
        assert shared.statistics()["plane"]["materialisations"] == before


def test_a_tenants_pictures_that_wait_for_seats_leave_room_in_the_arena(shared: Live) -> None:
    """Features of requests that wait for a seat stay leased: one tenant's would fill the arena for as long."""
    content = [
        json.dumps(body(*(part(noise(next(seeds), 600, 600)) for _ in range(8)), max_tokens=LONG, stream=True)).encode()
        for _ in range(6)
    ]
    with long_answers(shared, ALICE, RUNNING_MAX // 2), ExitStack() as stack:
        for each in content:
            stack.enter_context(announced(shared, ALICE, len(each), each))
        answers = [ask(shared, BOB, part(noise(next(seeds), 600, 600)), text("What is this?")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
