"""A client as a process of its own: several questions at once, one after the other, and a line for each answer.

    python -m tests.chaos.client URL CARDS SEED [AT_ONCE]

It ends when it is told to (SIGTERM), once all its questions are answered.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
from tests.chaos.deck import Card, Deck, Question

AT_ONCE = 6
HANG_S = 60.0
"""A question without an answer for so long counts as a hang."""
BROKEN, HUNG = 0, -1
"""Statuses: the connection broke; nothing came."""
PAUSE_S = 0.1
"""Between two questions: a refusal takes no time."""


class Answer(msgspec.Struct, frozen=True):
    """What became of one question."""

    kind: str
    status: int
    right: bool
    took_s: float
    said: str = ""


async def ask(http: httpx.AsyncClient, question: Question) -> Answer:
    """One question and its answer."""
    began_s = time.monotonic()
    try:
        if question.body["stream"]:
            status, said = await _streamed(http, question.body)
        else:
            status, said = _said(await http.post("/v1/chat/completions", json=question.body))
    except httpx.TimeoutException:
        status, said = HUNG, ""
    except httpx.TransportError as error:
        status, said = BROKEN, type(error).__name__
    return Answer(question.kind, status, said == question.right, time.monotonic() - began_s, said[:200])


def _said(answer: httpx.Response) -> tuple[int, str]:
    said = answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text
    return answer.status_code, said


async def _streamed(http: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, str]:
    """The text of a stream. An error that is its last event counts like a status; an early end is a broken one."""
    said, ended = "", False
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if not answer.is_success:
            return answer.status_code, (await answer.aread()).decode()
        async for line in answer.aiter_lines():
            event = line.removeprefix("data: ")
            ended |= event == "[DONE]"
            if not event.startswith("{"):
                continue
            found = json.loads(event)
            if "error" in found:
                return 503 if found["error"]["code"] == "unavailable" else 500, event
            said += "".join(choice["delta"].get("content", "") for choice in found["choices"])
    return (200 if ended else BROKEN), said


async def run(url: str, deck: Deck, at_once: int) -> None:
    """Ask until told to stop."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=url, timeout=HANG_S, limits=limits) as http:

        async def keep_asking() -> None:
            while not told.is_set():
                answer = await ask(http, deck.draw())
                sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
                sys.stdout.flush()
                await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(keep_asking() for _ in range(at_once)))


def main(url: str, cards: str, seed: str, at_once: str = f"{AT_ONCE}") -> None:
    """See above."""
    deck = Deck(msgspec.msgpack.decode(Path(cards).read_bytes(), type=list[Card]), int(seed))
    asyncio.run(run(url, deck, int(at_once)))


if __name__ == "__main__":
    main(*sys.argv[1:])
