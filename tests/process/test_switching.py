"""The switch (analysis C4): another delivery at any moment, for all requests or a share, and back by itself."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance import QUESTIONS, Right, ask, post, settle, switch
from live import Live, serving
from pictures import noise, part

from mmplane.config import DELIVERY_NAMES
from polling import until

OTHERS = [name for name in DELIVERY_NAMES if name != "arena"]
REQUESTS = 100
SWITCHES = 10
REQUESTS_MAX = 600
"""Of a trial. It usually ends after 40, and after 200 if one was held up: of up to 100, p99 is the slowest."""


@pytest.mark.parametrize("other", OTHERS)
def test_in_the_middle_of_100_requests(other: str, server_of: Callable[[int], Live], right: dict[str, Right]) -> None:
    live = server_of(2)
    names = itertools.cycle(QUESTIONS)
    taken: Counter[str] = Counter()
    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = []
        for number in range(SWITCHES):
            switch(live, other if number % 2 else "arena")
            since = [
                threads.submit(ask, live, right, name, limit_s=60, max_tokens=4)
                for name in itertools.islice(names, REQUESTS // SWITCHES)
            ]
            # One of these has been answered before the next switch, in the middle of the others.
            until(lambda since=since: any(answer.done() for answer in since), 60, "a request is answered")
            answers += since
        switch(live, "arena")
        taken.update(answer.result()["delivery"] for answer in answers)
    assert taken.total() == REQUESTS
    assert set(taken) == {"arena"} if other == "auto" else taken["arena"] and taken[other]
    settle(live, 2)


def test_a_share(server: Live, right: dict[str, Right]) -> None:
    switch(server, "leader-async", share=0.25)
    try:
        before = answered(server)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: ask(server, right, "wide"), range(40)))
        until(lambda: (answered(server) - before).total() >= 40, 60, "all are counted")
        assert answered(server) - before == {"leader-async": 10, "arena": 30}
    finally:
        switch(server, "arena")


def answered(live: Live) -> Counter[str]:
    """Requests that were answered, by delivery."""
    by_name = live.statistics()["delivery"]["by_name"]
    return Counter({name: tally["outcomes"].get("answered", 0) for name, tally in by_name.items()})


@pytest.fixture(scope="module")
def trial(tiny_folder: Path) -> Iterator[Live]:
    """A server that ends a trial by itself; it has no model, since it is about no answer."""
    flags = ("--runner", "null", "--rollback-on", "errors,p99", "--fault-injection", "on")
    with serving(tiny_folder, *flags) as live:
        yield live


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("errors", {"point": "materialise", "error": True}),
        ("p99", {"point": "materialise", "error": False, "delay_ms": 300}),
    ],
)
def test_a_worse_trial_ends_by_itself(cause: str, fault: dict[str, Any], trial: Live) -> None:
    """All requests carry a fault at a point that `leader` passes and `arena` does not."""
    switch(trial, "leader", share=0.5)
    before = trial.statistics()["delivery"]["rollbacks"]
    picture = [part(noise(30_000, 56, 56))]
    ask_it = partial(post, trial, picture, fault=fault, max_tokens=1)
    for _ in range(REQUESTS_MAX):
        status = ask_it().status_code
        assert status in ((200, 500) if cause == "errors" else (200,))
        if trial.statistics()["delivery"]["rollbacks"] > before:
            break
    now = trial.http.get("/admin/delivery").json()
    assert (now["share"], now["otherwise"], now["rolled_back"]) == (0.0, "arena", cause)
    assert {ask_it().json()["mmplane"]["trace"]["delivery"] for _ in range(10)} == {"arena"}
    switch(trial, "arena")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "shared-memory"},
        {"name": "leader", "share": 2},
        {"name": "leader", "share": -0.5},
        {"name": "leader", "cache": "maybe"},
        {"share": 0.5},
        {"name": "leader", "speed": "fast"},
        [],
    ],
)
def test_what_no_switch_can_do(body: Any, server: Live) -> None:
    before = server.http.get("/admin/delivery").json()
    answer = httpx.put(server.url + "/admin/delivery", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert server.http.get("/admin/delivery").json() == before
