"""Failure is a value (invariant 4): at every named point of every delivery, on any rank, as an exception or a delay."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance import QUESTIONS, Right, ask, post, settle, switch, together
from live import Live, serving
from preloaded import Preloaded
from tests.chaos.holds import Holds

from polling import until

BACK_LIMIT_S = 60.0
COLLECTIVE = ("before_collective", "in_collective", "after_collective")

BY_RANKS = ("construct", "materialise", *COLLECTIVE, "encode")
"""The leader materialises, or all do: see `passes`."""
INLINE = ("construct", "view", "encode")
POINTS: dict[str, tuple[str, ...]] = {
    "original": ("construct", "materialise", "encode"),
    "leader": BY_RANKS,
    "leader-batch": BY_RANKS,
    "leader-async": BY_RANKS,
    "delayed": BY_RANKS,
    "delayed-async": BY_RANKS,
    "eager": INLINE,
    "eager-compact": INLINE,
    "arena": INLINE,
}
"""Which points a request passes in each delivery."""
COLLECTIVE_DELIVERIES = [name for name, points in POINTS.items() if "in_collective" in points]
EVERYWHERE = [(name, point) for name, points in POINTS.items() for point in points]
AT_FOUR = [(name, point) for name, point in EVERYWHERE if name in ("leader", "delayed-async")]


def passes(delivery: str, point: str, rank: int) -> bool:
    """Whether that rank comes by that point; `construct` is the front end's, whatever rank is named."""
    return point == "construct" or not (point == "materialise" and rank and delivery.startswith("leader"))


def faulty(live: Live, right: dict[str, Right], delivery: str, fault: dict[str, Any]) -> None:
    """One request with a fault: 500 if the fault is an exception where the request passes, else the right answer."""
    if fault["error"] and passes(delivery, fault["point"], fault["rank"]):
        answer = post(live, QUESTIONS["several"][0], fault=fault)
        assert answer.status_code == 500, answer.text
        assert answer.json()["error"]["type"] == "server_error"
    else:
        ask(live, right, "several", fault=fault)


def check(live: Live, tp: int, right: dict[str, Right], delivery: str, point: str) -> None:
    """Exceptions and delays on the first and on the last rank, among requests that have none."""
    pids = live.pids()
    faults = [
        {"point": point, "rank": rank, "error": error, "delay_ms": delay_ms}
        for rank in {0, tp - 1}
        for error, delay_ms in ((True, 0), (True, 100), (False, 200))
    ]
    switch(live, delivery)
    try:
        together(
            partial(ask, live, right, "wide"),
            *(partial(faulty, live, right, delivery, fault) for fault in faults),
            *(partial(ask, live, right, name) for name in ("photo", "several", "text")),
        )
        settle(live, tp)
    finally:
        switch(live, "arena")
    assert live.pids() == pids


@pytest.mark.parametrize(("delivery", "point"), EVERYWHERE)
def test_a_fault(delivery: str, point: str, server_of: Callable[[int], Live], right: dict[str, Right]) -> None:
    check(server_of(2), 2, right, delivery, point)


@pytest.mark.parametrize(("delivery", "point"), AT_FOUR)
def test_a_fault_on_one_of_four(
    delivery: str, point: str, server_of: Callable[[int], Live], right: dict[str, Right]
) -> None:
    check(server_of(4), 4, right, delivery, point)


def test_a_fault_at_no_known_point_is_refused(server: Live) -> None:
    answer = post(server, "Hi", fault={"point": "somewhere"})
    assert answer.status_code == 400


def test_faults_are_refused_unless_the_server_was_told_to_take_them(doomed: Live) -> None:
    answer = post(doomed, "Hi", fault={"point": "encode", "rank": 0, "error": True, "delay_ms": 0})
    assert answer.status_code == 400


# What no request can be told to do: the process ends, or stands still, in the middle of a collective.


PICTURES = [name for name, (_, media) in QUESTIONS.items() if media]


@pytest.fixture(scope="module")
def doomed(tiny_folder: Path, holding: Preloaded) -> Iterator[Live]:
    with serving(tiny_folder, "--stall-seconds", "3", preloaded=holding) as live:
        yield live


def right_or_unavailable(live: Live, right: dict[str, Right], name: str) -> int:
    """The status of one question: its answer is right, or it is 503."""
    answer = post(live, QUESTIONS[name][0])
    assert answer.status_code in (200, 503), answer.text
    if answer.status_code == 200:
        assert answer.json()["mmplane"]["trace"]["token_ids"] == [right[name].tokens]
    return answer.status_code


def harm_at(live: Live, holds: Holds, place: str, role: str, harm: Callable[[], None]) -> None:
    """Do harm while a rank is held at this place and several requests are under way."""
    try:
        holds.held(place, role)
        until(lambda: live.statistics()["ranks"]["in_flight"] >= 3, 60, "several are under way")
        harm()
    finally:
        holds.let_go()


def strike(live: Live, right: dict[str, Right], holds: Holds, delivery: str, harm: Callable[[], None]) -> None:
    """Do harm while the leader is late for a collective that the others enter; service comes back."""
    switch(live, delivery)
    place = "collective" if delivery in COLLECTIVE_DELIVERIES else "prefill"
    holds.arm(place, "leader")
    *statuses, _ = together(
        *(partial(right_or_unavailable, live, right, name) for name in PICTURES),
        partial(harm_at, live, holds, place, "leader", harm),
    )
    assert 503 in statuses
    until(lambda: serves(live, right), BACK_LIMIT_S, "service is back")
    settle(live, 2)


def serves(live: Live, right: dict[str, Right]) -> bool:
    """Whether a picture passes."""
    try:
        answer = post(live, QUESTIONS["wide"][0])
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["mmplane"]["trace"]["token_ids"] == [right["wide"].tokens]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("delivery", COLLECTIVE_DELIVERIES)
def test_a_rank_is_killed_in_a_broadcast(
    delivery: str, rank: int, doomed: Live, right: dict[str, Right], holds: Holds
) -> None:
    victim = doomed.processes()[f"rank {rank}/2"]
    strike(doomed, right, holds, delivery, victim.kill)


@pytest.mark.parametrize("delivery", ["leader", "leader-async", "eager"])
def test_a_follower_stands_still(delivery: str, doomed: Live, right: dict[str, Right], holds: Holds) -> None:
    victim = doomed.processes()["rank 1/2"]
    strike(doomed, right, holds, delivery, partial(victim.send_signal, signal.SIGSTOP))


@pytest.mark.parametrize("delivery", ["original", "leader", "delayed-async", "eager-compact"])
def test_the_front_end_is_killed(delivery: str, doomed: Live, right: dict[str, Right], holds: Holds) -> None:
    """What it had sent, in whole or in part, is dropped by the ranks, which go on."""
    switch(doomed, delivery)
    ranks = {title: pid for title, pid in doomed.pids().items() if title.startswith("rank")}

    def broken(name: str) -> None:
        with contextlib.suppress(httpx.TransportError):
            right_or_unavailable(doomed, right, name)

    holds.arm("encode", "follower")
    kill = doomed.processes()["frontend"].kill
    together(*(partial(broken, name) for name in PICTURES), partial(harm_at, doomed, holds, "encode", "follower", kill))
    until(lambda: serves(doomed, right), BACK_LIMIT_S, "service is back")
    settle(doomed, 2)
    assert {title: pid for title, pid in doomed.pids().items() if title.startswith("rank")} == ranks
