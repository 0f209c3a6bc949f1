"""Each stage has a histogram that tells it from the others: what is slow there moves it, and no other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
from conformance import post, settle, switch
from live import Live, serving, until
from pictures import noise, part, text
from scrape import answered, scrape, stage_seconds, stages_moved_by

from mmplane.core.stages import STAGES
from mmplane.observe.metrics import METRICS

DELAY_MS = 600
"""Longer than a stage takes by itself on a machine that is busy with other tests."""
DELAY_S = DELAY_MS / 1000
SLOW_S = DELAY_S - 0.01
"""The event loop's timers count in milliseconds and may be early by one."""
seeds = count(71_000)

pytestmark = pytest.mark.timeout(120)

PLACES = {
    "body": [("body", 0)],
    "fetch": [("fetch", 0)],
    "key": [("key", 0)],
    "probe": [("probe", 0)],
    "prompt": [("prompt", 0)],
    "slot_wait": [("slot_wait", 0)],
    "decode": [("decode", 0)],
    "transform": [("transform", 0)],
    "handoff": [("handoff", 0)],
    "admission": [("admission", 0)],
    "deliver": [("view", 0), ("view", 1)],
    "encode": [("encode", 0), ("encode", 1)],
    "prefill": [("prefill", 0)],
    "generate": [("generate", 0)],
    "reply": [("reply", 0)],
}
"""Where to put a delay (and on which rank) so that a stage is slow. `queue` and `flight` are made slow by others."""

ELSEWHERE = [
    ("eager", "decode", "decode", 0),
    ("eager-compact", "transform", "transform", 0),
    ("original", "decode", "decode", 1),
    ("leader", "decode", "decode", 0),
    ("leader", "transform", "transform", 0),
    ("leader", "deliver", "in_collective", 0),
    ("leader-async", "decode", "decode", 0),
    ("delayed", "decode", "decode", 1),
    ("delayed-async", "deliver", "after_collective", 1),
]
"""The same in deliveries where others decode: (delivery, stage, place, rank)."""


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> Iterator[Live]:
    """A server whose model takes no time, so that on a busy machine no stage is slow by itself."""
    with serving(tiny_folder, "--runner", "null", "--fault-injection", "on") as live:
        yield live


def check(live: Live, stage: str, place: str, rank: int) -> None:
    fault = {"point": place, "rank": rank, "error": False, "delay_ms": DELAY_MS}

    def request() -> None:
        answer = post(live, [part(noise(next(seeds))), text("What is this?")], fault=fault, max_tokens=2)
        assert answer.status_code == 200, answer.text

    moved = stages_moved_by(live, request, outcome="answered")
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} == {stage}, moved


def test_every_stage_is_tried() -> None:
    assert {*PLACES, "queue", "flight"} == set(STAGES)


@pytest.mark.parametrize(
    ("stage", "place", "rank"), [(stage, *at) for stage, places in PLACES.items() for at in places]
)
def test_a_slow_stage_moves_its_histogram_and_no_other(stage: str, place: str, rank: int, plain: Live) -> None:
    check(plain, stage, place, rank)


@pytest.mark.parametrize("stage", ["prefill", "generate"])
def test_a_follower_that_is_slow_in_a_step_makes_it_slow(stage: str, server: Live) -> None:
    """Ranks of a real model meet in every step."""
    fault = {"point": stage, "rank": 1, "error": False, "delay_ms": DELAY_MS}
    request = partial(post, server, [part(noise(next(seeds)))], fault=fault, max_tokens=2)
    assert stages_moved_by(server, request, outcome="answered")[stage] >= SLOW_S


@pytest.mark.parametrize(("delivery", "stage", "place", "rank"), ELSEWHERE)
def test_in_other_deliveries_too(delivery: str, stage: str, place: str, rank: int, plain: Live) -> None:
    switch(plain, delivery)
    try:
        check(plain, stage, place, rank)
    finally:
        switch(plain, "arena")


@contextmanager
def whole_budget_taken(live: Live) -> Iterator[Callable[[], None]]:
    """Requests that announce bodies of 64 MiB and send none, until the budget for requests has no room."""
    address = urlsplit(live.url)
    with ExitStack() as stack:

        def let_go() -> None:
            stack.close()

        while (budget := live.statistics()["budget"])["reserved_bytes"] < budget["limit_bytes"] // 2:
            client = stack.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-length: {64 * 2**20}\r\n\r\n"
            )
            client.sendall(head.encode())
            reserved_bytes = budget["reserved_bytes"]
            until(lambda: live.statistics()["budget"]["reserved_bytes"] > reserved_bytes, 20, "it is admitted")  # noqa: B023
        yield let_go


def test_a_full_budget_moves_the_queue_and_no_other(plain: Live) -> None:
    with whole_budget_taken(plain) as let_go:

        def request() -> None:
            asking = threading.Thread(target=ask)
            asking.start()
            until(lambda: plain.statistics()["budget"]["waiting"] == 1, 20, "it waits")
            sleep(DELAY_S)  # the delay itself
            let_go()
            asking.join(20)

        def ask() -> None:
            assert post(plain, [part(noise(next(seeds)))], max_tokens=2).status_code == 200

        moved = stages_moved_by(plain, request, outcome="answered")
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} == {"queue"}, moved
    settle(plain, 2)


def test_who_waits_for_anothers_item_moves_flight(server: Live) -> None:
    picture = part(noise(next(seeds)))
    before = scrape(server)
    fault = {"point": "decode", "error": False, "delay_ms": 2 * DELAY_MS}
    first = threading.Thread(target=lambda: post(server, [picture], fault=fault))
    first.start()
    until(lambda: server.statistics()["arena"]["total"]["writing_bytes"], 20, "it is being made")
    assert post(server, [picture]).json()["mmplane"]["trace"]["items"][0]["cache_hit"]
    first.join(20)
    after = until(lambda: (now := scrape(server)) and answered(now) == answered(before) + 2 and now, 20, "both counted")
    moved = stage_seconds(after, outcome="answered")
    moved.subtract(stage_seconds(before, outcome="answered"))
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} >= {"decode", "flight"}
    assert moved["decode"] < 4 * DELAY_S, "one of them made it"


def test_every_metric_has_samples(server: Live) -> None:
    """Once a few requests have passed, in deliveries that leave nothing out."""
    for delivery in ("leader", "auto", "arena"):
        switch(server, delivery)
        assert post(server, [part(noise(next(seeds)))]).status_code == 200
    assert post(server, [part(b"no picture")]).status_code == 400
    assert post(server, "Hi", n=1000).status_code == 400
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")
        until(lambda: server.statistics()["requests"]["in_flight"], 20, "it has begun")
    until(lambda: server.statistics()["journal"]["aborts"], 20, "it is over")

    def missing() -> set[str]:
        names = {name.removesuffix("_count") for name, found in scrape(server).items() if found}
        return {metric.name for metric in METRICS} - names

    until(lambda: not missing() or None, 20, "every metric has samples")


def test_a_refusal_is_counted_with_its_cause(server: Live) -> None:
    def refusals() -> dict[Any, float]:
        found = scrape(server).get("mmplane_request_failures_total", {})
        return {labels: value for labels, value in found.items() if ("phase", "probe") in labels}

    before = sum(refusals().values())
    assert post(server, [part(b"no picture either")]).status_code == 400
    until(lambda: sum(refusals().values()) == before + 1, 20, "it is counted")
