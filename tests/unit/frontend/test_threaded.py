"""Bodies of a process that only renders: what takes long is a thread's, in turns, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import numpy as np
import pytest
from frontend_client import question

from frontend_loop import HANG_S, in_loop, settle
from mmplane.core.errors import RequestError
from mmplane.frontend.body.schema import ChatRequest
from mmplane.frontend.request.reading import ParsedBody
from mmplane.frontend.request.renderer import Ids, Renderer
from mmplane.frontend.request.threaded import INLINE_QUOTES_MAX, ThreadedBodies
from mmplane.waiting import fair_lock
from mmplane.waiting.fair_lock import FairLock
from mutation import Mutant, check_it_is_killed

LONG = "x" * 1025
BURST = 100
"""Requests of one client at once."""


class PlayedRenderer(Renderer):
    """Notes what it renders, by the request's `user`, and in which thread; it waits for its gate."""

    def __init__(self) -> None:
        super().__init__(None, "", 10_000)
        self.gate = threading.Event()
        self.gate.set()
        self.rendered: list[str | None] = []
        self.threads: set[str] = set()

    def check_length(self, request: ChatRequest) -> None:
        """Everything fits."""

    def render(self, request: ChatRequest) -> Ids:
        self.rendered.append(request.user)
        self.threads.add(threading.current_thread().name.partition("_")[0])
        assert self.gate.wait(HANG_S)
        return np.zeros(1, np.int32)


class Parsing:
    """Bodies with two played renderers: the loop's, and the thread's."""

    def __init__(self) -> None:
        self.here, self.there = PlayedRenderer(), PlayedRenderer()
        self.bodies = ThreadedBodies(self.here, lambda: self.there, bytes_max=10_000_000)

    def begin(self, name: str, *, tenant: str = "", **fields: Any) -> asyncio.Task[ParsedBody]:
        return asyncio.create_task(self.parse(json.dumps(question(user=name, **fields)).encode(), tenant=tenant))

    async def parse(self, content: bytes, *, tenant: str = "") -> ParsedBody:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        with await self.bodies.read(receive, len(content), tenant=tenant) as body:
            return await self.bodies.parse(body)


@pytest.mark.parametrize(
    ("fields", "here"),
    [
        ({}, True),
        ({"text": LONG}, False),
        ({"metadata": {str(number): "x" for number in range(16)}}, True),
        ({"metadata": {"x": '"' * INLINE_QUOTES_MAX}}, False),
    ],
)
@in_loop
async def test_only_what_is_quick_is_done_on_the_loop(fields: dict[str, Any], here: bool) -> None:
    parsing = Parsing()
    parsed = await parsing.begin("mine", **fields)
    assert parsed.request.user == "mine"
    assert (parsing.here.rendered, parsing.there.rendered) == ((["mine"], []) if here else ([], ["mine"]))
    assert (parsing.here.threads | parsing.there.threads) == {"MainThread" if here else "render"}


@in_loop
async def test_short_requests_pass_long_ones() -> None:
    parsing = Parsing()
    parsing.there.gate.clear()
    long = parsing.begin("long", text=LONG)
    assert (await parsing.begin("short")).request.user == "short"
    assert not long.done()
    parsing.there.gate.set()
    await long


@in_loop
async def test_tenants_take_turns() -> None:
    parsing = Parsing()
    parsing.there.gate.clear()
    begun = [parsing.begin(name, text=LONG, tenant=name[0]) for name in ("a1", "a2", "a3", "b1", "b2")]
    await settle()
    parsing.there.gate.set()
    await asyncio.gather(*begun)
    assert parsing.there.rendered == ["a1", "b1", "a2", "b2", "a3"]


@in_loop
async def test_a_burst_of_one_tenant_waits_its_turn() -> None:
    parsing = Parsing()
    parsing.there.gate.clear()
    begun = [parsing.begin(str(number), text=LONG) for number in range(BURST)]
    await settle()
    assert not any(each.done() for each in begun)
    parsing.there.gate.set()
    await asyncio.gather(*begun)
    assert len(parsing.there.rendered) == BURST


@in_loop
async def test_not_more_wait_than_may() -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(fair_lock, "WAITING_MAX", 2)
        parsing = Parsing()
        parsing.there.gate.clear()
        begun = [parsing.begin(str(number), text=LONG) for number in range(3)]
        await settle()
        one_more = parsing.begin("3", text=LONG)
        await settle()
        parsing.there.gate.set()
        with pytest.raises(RequestError) as refused:
            await one_more
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
        await asyncio.gather(*begun)
    assert parsing.there.rendered == ["0", "1", "2"]


@in_loop
async def test_who_goes_away_leaves_the_thread_to_others() -> None:
    parsing = Parsing()
    parsing.there.gate.clear()
    gone, waits = parsing.begin("gone", text=LONG), parsing.begin("waits", text=LONG)
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not waits.done()
    parsing.there.gate.set()
    await waits
    assert parsing.there.rendered == ["gone", "waits"]


@in_loop
async def test_what_is_wrong_is_said_by_the_thread_too() -> None:
    parsing = Parsing()
    for content in (b"{", b'{"' * 1000):
        with pytest.raises(RequestError) as refused:
            await parsing.parse(content)
        assert (refused.value.status, refused.value.code) == (400, "invalid_json")
    assert (await parsing.begin("next", text=LONG)).request.user == "next"


MUTANTS = [
    Mutant(
        "a body of many values is not parsed on the loop",
        ThreadedBodies.parse,
        "if quotes > INLINE_QUOTES_MAX",
        "if False",
        test_only_what_is_quick_is_done_on_the_loop,
        ({"metadata": {"x": '"' * INLINE_QUOTES_MAX}}, False),
    ),
    Mutant(
        "a long prompt is not rendered on the loop",
        ThreadedBodies.parse,
        "if is_short(request)",
        "if True",
        test_only_what_is_quick_is_done_on_the_loop,
        ({"text": LONG}, False),
    ),
    Mutant(
        "the tenant that had the last turn is behind others",
        FairLock.acquire,
        "self._served = tenant",
        "pass",
        test_tenants_take_turns,
    ),
    Mutant(
        "bodies that wait for the thread",
        FairLock.__init__,
        "waiting_min=WAITING_MAX",
        "waiting_min=1000",
        test_not_more_wait_than_may,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
