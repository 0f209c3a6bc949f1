"""Each stage has a histogram that tells it from the others: what is slow there moves it, and no other."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
from conformance import post, settle, switch, together
from live import Live, serving
from pictures import noise, part, text
from preloaded import Preloaded
from scrape import Samples, answered, scrape, stage_seconds, stages_moved_by
from tests.chaos.holds import Holds

from mmplane.core.stages import STAGES
from mmplane.observe.metrics import METRICS
from polling import until

SLOW_S = 0.6
"""Longer than a stage takes by itself on a machine that is busy with other tests."""
DELAY_S = 2 * SLOW_S
"""How long a process is held: a stage begins and ends a little later than the hold does."""
seeds = count(71_000)

FRONT_END = ("body", "fetch", "key", "probe", "prompt", "slot_wait", "reply")
WORKER = ("decode", "transform", "handoff")
PLACES = [
    *((stage, stage, "frontend") for stage in FRONT_END),
    *((stage, stage, "worker") for stage in WORKER),
    *((stage, stage, "leader") for stage in ("admission", "prefill", "generate")),
    *((stage, stage, role) for stage in ("deliver", "encode") for role in ("leader", "follower")),
]
"""Where to hold a process, and which, so that a stage is slow: (stage, place, role); see `tests/chaos/inside/holds.py`.
`queue` and `flight` are made slow by others."""

ELSEWHERE = [
    ("eager", "decode", "decode", "frontend"),
    ("eager-compact", "transform", "transform", "frontend"),
    ("original", "decode", "decode", "follower"),
    ("leader", "decode", "decode", "leader"),
    ("leader", "transform", "transform", "leader"),
    ("leader", "deliver", "collective", "leader"),
    ("leader-async", "decode", "decode", "leader"),
    ("delayed", "decode", "decode", "follower"),
    ("delayed-async", "deliver", "collective", "follower"),
]
"""The same in deliveries where others decode: (delivery, stage, place, role)."""


@pytest.fixture(scope="module")
def plain(tiny_folder: Path, holding: Preloaded) -> Iterator[Live]:
    """A server whose model takes no time, so that on a busy machine no stage is slow by itself."""
    with serving(tiny_folder, "--runner", "null", preloaded=holding) as live:
        yield live


@pytest.fixture(scope="module")
def computing(tiny_folder: Path, holding: Preloaded) -> Iterator[Live]:
    """A server with a real model, whose ranks meet in every step."""
    with serving(tiny_folder, "--workers", "1", preloaded=holding) as live:
        yield live


def slow(live: Live, holds: Holds, place: str, role: str) -> Counter[str]:
    """By how many seconds each stage moves when a process is held once at this place."""

    def ask() -> None:
        answer = post(live, [part(noise(next(seeds))), text("What is this?")], max_tokens=2)
        assert answer.status_code == 200, answer.text

    def hold() -> None:
        try:
            holds.held(place, role)
            sleep(DELAY_S)  # the delay itself
        finally:
            holds.let_go()

    holds.arm(place, role)
    return stages_moved_by(live, partial(together, ask, hold), outcome="answered")


def check(live: Live, holds: Holds, stage: str, place: str, role: str) -> None:
    moved = slow(live, holds, place, role)
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} == {stage}, moved


def test_every_stage_is_tried() -> None:
    assert {*(stage for stage, _, _ in PLACES), "queue", "flight"} == set(STAGES)


@pytest.mark.parametrize(("stage", "place", "role"), PLACES)
def test_a_slow_stage_moves_its_histogram_and_no_other(
    stage: str, place: str, role: str, plain: Live, holds: Holds
) -> None:
    check(plain, holds, stage, place, role)


@pytest.mark.parametrize("stage", ["prefill", "generate"])
def test_a_follower_that_is_slow_in_a_step_makes_it_slow(stage: str, computing: Live, holds: Holds) -> None:
    """Ranks of a real model meet in every step."""
    assert slow(computing, holds, stage, "follower")[stage] >= SLOW_S


@pytest.mark.parametrize(("delivery", "stage", "place", "role"), ELSEWHERE)
def test_in_other_deliveries_too(delivery: str, stage: str, place: str, role: str, plain: Live, holds: Holds) -> None:
    switch(plain, delivery)
    try:
        check(plain, holds, stage, place, role)
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
            until(lambda: live.statistics()["budget"]["reserved_bytes"] > reserved_bytes, 60, "it is admitted")  # noqa: B023
        yield let_go


def test_a_full_budget_moves_the_queue_and_no_other(plain: Live) -> None:
    with whole_budget_taken(plain) as let_go:

        def request() -> None:
            asking = threading.Thread(target=ask)
            asking.start()
            until(lambda: plain.statistics()["budget"]["waiting"] == 1, 60, "it waits")
            sleep(DELAY_S)  # the delay itself
            let_go()
            asking.join(60)

        def ask() -> None:
            assert post(plain, [part(noise(next(seeds)))], max_tokens=2).status_code == 200

        moved = stages_moved_by(plain, request, outcome="answered")
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} == {"queue"}, moved
    settle(plain, 2)


def decodes(samples: Samples) -> float:
    """Items whose decoding was counted."""
    named = samples.get("mmplane_stage_seconds_count", {}).items()
    return sum(value for labels, value in named if ("stage", "decode") in labels)


def test_who_waits_for_anothers_item_moves_flight(plain: Live, holds: Holds) -> None:
    picture = part(noise(next(seeds)))
    before = scrape(plain)
    holds.arm("decode", "worker")

    def second() -> bool:
        holds.held("decode", "worker")
        hit: bool = post(plain, [picture]).json()["mmplane"]["trace"]["items"][0]["cache_hit"]
        return hit

    def hold() -> None:
        try:
            until(lambda: plain.statistics()["requests"]["in_flight"] == 2, 60, "the second has come")
            sleep(DELAY_S)  # the delay itself, and time to get as far as the item
        finally:
            holds.let_go()

    _, hit, _ = together(partial(post, plain, [picture]), second, hold)
    assert hit
    after = until(lambda: (now := scrape(plain)) and answered(now) == answered(before) + 2 and now, 60, "both counted")
    moved = stage_seconds(after, outcome="answered")
    moved.subtract(stage_seconds(before, outcome="answered"))
    assert {name for name, seconds in moved.items() if seconds >= SLOW_S} == {"decode", "flight"}
    assert decodes(after) == decodes(before) + 1, "one of them made it"


def test_every_metric_has_samples(server: Live) -> None:
    """Once a few requests have passed, in deliveries that leave nothing out. No media machine has joined here."""
    for delivery in ("leader", "auto", "arena"):
        switch(server, delivery)
        assert post(server, [part(noise(next(seeds)))]).status_code == 200
    assert post(server, [part(b"no picture")]).status_code == 400
    assert post(server, "Hi", n=1000).status_code == 400
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")
        until(lambda: server.statistics()["requests"]["in_flight"], 60, "it has begun")
    until(lambda: server.statistics()["journal"]["aborts"], 60, "it is over")

    def missing() -> set[str]:
        names = {name.removesuffix("_count") for name, found in scrape(server).items() if found}
        return {metric.name for metric in METRICS if "machine" not in metric.labels} - names

    until(lambda: not missing() or None, 60, "every metric has samples")


def test_first_tokens_and_the_gaps_between_tokens_are_counted(server: Live) -> None:
    def counted() -> tuple[float, float]:
        found = scrape(server)
        gaps = found.get("mmplane_inter_token_seconds_count", {})
        return sum(found.get("mmplane_time_to_first_token_seconds_count", {}).values()), sum(gaps.values())

    first, gaps = counted()
    answer = post(server, "Hi", n=2, max_tokens=8)
    assert answer.status_code == 200
    expected = first + 1, gaps + answer.json()["usage"]["completion_tokens"] - 2
    until(lambda: counted() == expected or None, 60, "it is counted")


def test_the_cpu_and_memory_of_every_process_are_known(server: Live) -> None:
    """By the name that its title has as well; a label that is empty is not there."""
    samples = scrape(server)
    found = samples["mmplane_process_cpu_seconds_total"]
    names = {" ".join(value for _, value in sorted(labels, reverse=True) if value) for labels in found}
    assert names == {name.partition("/")[0] for name in server.pids()}
    assert all(spent_s > 0 for spent_s in found.values())
    resident = samples["mmplane_process_resident_bytes"]
    assert {frozenset(labels) - {("kind", "private"), ("kind", "shared")} for labels in resident} == set(
        map(frozenset, found)
    )
    assert all(bytes_ > 0 for bytes_ in resident.values())


def test_a_refusal_is_counted_with_its_cause(server: Live) -> None:
    def refusals() -> dict[Any, float]:
        found = scrape(server).get("mmplane_request_failures_total", {})
        return {labels: value for labels, value in found.items() if ("phase", "probe") in labels}

    before = sum(refusals().values())
    assert post(server, [part(b"no picture either")]).status_code == 400
    until(lambda: sum(refusals().values()) == before + 1, 60, "it is counted")
