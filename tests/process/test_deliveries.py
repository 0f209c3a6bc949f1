"""The conformance suite: every delivery, at every number of ranks, answers right and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conformance import (
    QUESTIONS,
    Right,
    ask,
    ask_picture,
    check_mixture,
    digest_of,
    post,
    settle,
    switch,
    together,
)
from live import Live, alive, serving
from pictures import jpeg, noise, part, text
from reference import Reference

from mmplane.config import DELIVERY_NAMES
from mmplane.delivery.ingress import INGRESS
from polling import until

IN_ARENA = ("arena", "auto")
MATERIALISE_EACH = ("original", "delayed", "delayed-async")
"""Deliveries that materialise on every rank."""
MADE_IN_FRONT = ("eager", "eager-compact")
WORKS_AT = {"original": "materialise", "eager": "view", "eager-compact": "view", "arena": "view", "auto": "view"}
"""A point that a request passes while it is delivered; `before_collective` for all others."""

fresh = map(noise, itertools.count(20_000))
"""Pictures that nobody has sent before."""


@pytest.fixture(params=[1, 2, 4], scope="module")
def tp(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(params=DELIVERY_NAMES)
def delivery(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def live(tp: int, delivery: str, server_of: Callable[[int], Live]) -> Iterator[Live]:
    """The session's server, switched to the delivery; afterwards nothing of any request is left on any rank."""
    server = server_of(tp)
    switch(server, delivery)
    try:
        yield server
        settle(server, tp)
    finally:
        switch(server, "arena")


def test_right_answers(live: Live, tp: int, delivery: str, right: dict[str, Right]) -> None:
    for name in QUESTIONS:
        trace = ask(live, right, name)
        assert trace["delivery"] == ("arena" if delivery == "auto" else delivery)
        assert all(set(item["digests"]) == set(map(str, range(tp))) for item in trace["items"])
    check_mixture(live, right)


def test_one_bad_between_two_good(live: Live, right: dict[str, Right]) -> None:
    cut = jpeg(2100, 112, 84)
    bad = [part(cut[: len(cut) // 2]), text("?")]  # its header is whole: that the rest is missing shows in decoding
    *_, damaged, endless = together(
        partial(ask, live, right, "wide"),
        partial(ask, live, right, "several"),
        partial(ask, live, right, "photo"),
        partial(post, live, bad),
        partial(post, live, [part(next(fresh))], n=16, max_tokens=7000),  # more than the ranks' memory: never prepared
    )
    assert damaged.status_code == 400
    assert damaged.json()["error"]["code"] == "invalid_media"
    assert endless.status_code == 413
    ask(live, right, "tall")


def test_order_under_delays(live: Live, delivery: str, right: dict[str, Right]) -> None:
    """Of two that begin together the later is ready first; with a pool it overtakes, and may not be mistaken."""
    point = "materialise" if delivery.startswith(("leader", "delayed")) else WORKS_AT[delivery]
    delays_ms = [150, 0, 100, 0, 50, 0]
    together(
        *(
            partial(ask, live, right, name, fault={"point": point, "error": False, "delay_ms": delay_ms})
            for name, delay_ms in zip(QUESTIONS, delays_ms, strict=True)
        )
    )


def test_repeats(live: Live, tp: int, delivery: str, reference: Reference) -> None:
    """`cache_hit` is false once for each materialisation; ranks keep the same, and no more than they may."""
    media = next(fresh)
    ask_it = partial(ask_picture, live, digest_of(reference, media), media)
    switch(live, delivery, cache="off")
    count = Materialised(live, "arena" if delivery == "auto" else delivery, hashed=delivery not in IN_ARENA)
    each = tp if delivery in MATERIALISE_EACH else 1
    assert [ask_it()["cache_hit"] for _ in range(2)] == [False, False]
    count.expect(2 * each)
    switch(live, delivery, cache="on")
    hits = [ask_it()["cache_hit"] for _ in range(3)]
    # The cache is the ranks': what the front end makes it makes before they are asked.
    assert hits == ([False] * 3 if delivery in MADE_IN_FRONT else [False, True, True])
    count.expect((2 + hits.count(False)) * each)
    if delivery not in IN_ARENA:
        others = [next(fresh) for _ in range(5)]  # four pictures fill the cache
        digests = [digest_of(reference, other) for other in others]
        jobs = [partial(ask_picture, live, *pair) for pair in zip(digests, others, strict=True)]
        for _ in range(2):
            together(*jobs, *jobs, ask_it)
            cached = {report["cached"] for report in settle(live, tp)}
            assert cached == {4} or (delivery == "eager-compact" and len(cached) == 1)  # of its features more fit


@pytest.mark.parametrize("tp", [4], scope="module")
def test_inline_bytes_reach_the_ranks_that_need_them(
    live: Live, tp: int, delivery: str, right: dict[str, Right]
) -> None:
    """In each way that a delivery can take; its own comes first."""
    for ingress in ("auto", *INGRESS[delivery]):
        switch(live, delivery, ingress=ingress)
        before = received_bytes(live, tp)
        ask(live, right, "wide")
        sent = [after - then for after, then in zip(received_bytes(live, tp), before, strict=True)]
        takes = INGRESS[delivery][:1] if ingress == "auto" else (ingress,)
        if delivery in IN_ARENA:
            assert sent == [0] * tp
        else:
            assert sent[0] > 0
            assert sent[1:] == [sent[0] if takes == ("every-rank",) else 0] * (tp - 1)


def received_bytes(live: Live, tp: int) -> list[int]:
    """What has come inline, by rank."""
    return [report["received_bytes"] for report in settle(live, tp)]


class Materialised:
    """How many items a delivery has materialised and hashed since, summed over all processes."""

    def __init__(self, live: Live, name: str, *, hashed: bool) -> None:
        self._live = live
        self._name = name
        self._hashed = hashed
        self._before = self._now()

    def _now(self) -> tuple[int, int]:
        tally = self._live.statistics()["delivery"]["by_name"].get(self._name, {})
        return tally.get("materialisations", 0), tally.get("feature_hashes", 0)

    def expect(self, count: int) -> None:
        """Outside the arena features are hashed wherever they are made. Requests are counted a moment after answers."""
        made_before, hashed_before = self._before
        until(lambda: self._now()[0] - made_before >= count, 60, f"{count} are counted")
        assert self._now() == (made_before + count, hashed_before + count * self._hashed)


@contextmanager
def leaving(live: Live, content: Any, **fields: Any) -> Iterator[socket.socket]:
    """A client that sends a request, and goes away at the end of the block."""
    message = {"role": "user", "content": content}
    body = json.dumps({"model": "tiny", "messages": [message], "max_tokens": 1000, **fields}).encode()
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        yield client


def in_flight(live: Live) -> int:
    """Requests that the ranks have, or will get."""
    count: int = live.statistics()["ranks"]["in_flight"]
    return count


def at_work(point: str, rank: int) -> dict[str, Any]:
    """A fault that only delays, in a request that goes on until its client leaves."""
    return {"fault": {"point": point, "rank": rank, "error": False, "delay_ms": 300}, "ignore_eos": True}


def test_leaving_in_each_stage(live: Live, tp: int, delivery: str, right: dict[str, Right]) -> None:
    for point in (WORKS_AT.get(delivery, "before_collective"), "encode"):
        with leaving(live, [part(next(fresh)), part(next(fresh))], mmplane=at_work(point, tp - 1)):
            until(lambda: in_flight(live), 60, "it reaches the ranks")
        until(lambda: not in_flight(live), 60, "nothing of it is left")

    def progress(name: str) -> int:
        found: int = live.statistics()["ranks"]["progress"][name]
        return found

    # 16 samples decode, all that may; another request with a picture waits for a seat. Both clients go away.
    with leaving(live, [part(next(fresh))], n=16, stream=True, mmplane={"ignore_eos": True}):
        until(lambda: progress("kv_tokens"), 60, "it has all seats")
        with leaving(live, [part(next(fresh))]):
            until(lambda: progress("waiting"), 60, "the other waits")
        until(lambda: not progress("waiting"), 60, "it waits no more")
        until(lambda: progress("running"), 60, "the first decodes")
    ask(live, right, "wide")


@pytest.fixture
def background(tiny_folder: Path) -> Iterator[Live]:
    """A server that takes half of its requests through one background delivery, half through the other."""
    with serving(
        tiny_folder, "--delivery", "leader-async", "--fault-injection", "on", "--drain-seconds", "600"
    ) as live:
        switch(live, "delayed-async", share=0.5)
        yield live


def test_draining_finishes_pending_work(background: Live, right: dict[str, Right]) -> None:
    fault = {"point": "materialise", "error": False, "delay_ms": 500}

    def taken() -> int:
        requests = background.statistics()["requests"]
        count: int = requests["in_flight"] + sum(requests["by_status"].values())
        return count

    def drain() -> None:
        until(lambda: taken() >= len(QUESTIONS), 60, "all are taken")  # later ones would be refused
        background.signal(signal.SIGTERM)

    together(*(partial(ask, background, right, name, fault=fault) for name in QUESTIONS), drain)
    assert background.wait() == 0


def test_ending_at_once_leaves_nothing(background: Live) -> None:
    pids = background.pids()
    with (
        leaving(background, [part(next(fresh))], mmplane=at_work("materialise", 0)),
        leaving(background, [part(next(fresh))], mmplane=at_work("before_collective", 1)),
    ):
        until(lambda: in_flight(background) == 2, 60, "both are under way")
        background.signal(signal.SIGINT)
        assert background.wait() == 0
    until(lambda: not alive([*pids.values()]), 60, "all have ended")
