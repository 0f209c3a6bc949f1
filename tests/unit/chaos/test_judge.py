"""The judges of the kill matrix see what they are there for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from books import busy
from tests.chaos import judge, rest
from tests.chaos.client import BROKEN, HUNG, Answer
from tests.chaos.rest import Rest
from tests.chaos.table import VICTIMS, Round

TITLES = {"supervisor": 10, "frontend": 11, "worker 1": 12, "rank 0/2": 13}
BEFORE = Rest(TITLES, dict.fromkeys(TITLES, 20), dict.fromkeys(TITLES, 2), dict.fromkeys(TITLES, 100 * 2**20))


REFUSED = {503}


def objections(*answers: Answer, allowed: set[int] = REFUSED) -> list[str]:
    return judge.objections(answers, allowed=allowed, refused_s_max=5.0)


def test_right_answers_and_refusals_in_time_are_fine() -> None:
    assert not objections(Answer("fresh", 200, True, 60.0), Answer("fresh", 503, False, 4.9))


@pytest.mark.parametrize(
    "answer",
    [
        Answer("fresh", 200, False, 0.1, "1234"),
        Answer("fresh", 503, False, 5.1),
        Answer("fresh", 500, False, 0.1),
        Answer("fresh", 400, False, 0.1),
        Answer("fresh", HUNG, False, 60.0),
        Answer("stream", BROKEN, False, 0.1),
    ],
    ids=lambda answer: f"{answer.status}",
)
def test_anything_else_is_not(answer: Answer) -> None:
    assert len(objections(answer)) == 1


@pytest.mark.parametrize(
    ("victim", "signal", "statuses"),
    [
        ("frontend", "SIGKILL", {503, BROKEN}),
        ("supervisor", "SIGKILL", {503, BROKEN}),
        ("worker", "SIGSTOP", {503}),
        ("leader", "SIGKILL", {503}),
        ("supervisor", "SIGSTOP", set()),
        ("client", "SIGKILL", set()),
    ],
)
def test_connections_break_only_with_who_holds_them(victim: str, signal: str, statuses: set[int]) -> None:
    round_ = Round(0, victim, signal, "fetch", "frontend", 0)
    assert judge.allowed(round_, VICTIMS[victim]) == statuses


def changed(what: str, title: str, value: int) -> Rest:
    return msgspec.structs.replace(BEFORE, **{what: getattr(BEFORE, what) | {title: value}})


@pytest.mark.parametrize(
    "after",
    [
        changed("descriptors", "supervisor", 21),
        changed("threads", "frontend", 3),
        changed("memory_bytes", "rank 0/2", 200 * 2**20),
        changed("pids", "worker 2", 14),
    ],
    ids=["descriptors", "threads", "memory", "processes"],
)
def test_what_grows_is_seen(after: Rest) -> None:
    assert not rest.grown(BEFORE, BEFORE)
    assert len(rest.grown(BEFORE, after)) == 1


def test_who_is_replaced_without_a_reason_or_not_at_all_is_seen() -> None:
    after = changed("pids", "worker 1", 99)
    assert rest.misplaced(BEFORE, after, ()) == ["worker 1 was replaced"]
    assert not rest.misplaced(BEFORE, after, ("worker 1",))
    assert rest.misplaced(BEFORE, BEFORE, ("worker 1",)) == ["worker 1 was not replaced"]


IDLE: dict[str, Any] = {
    "requests": {"in_flight": 0},
    "arena": {"leases": 0, "regions": [{"length_bytes": 100, "free_bytes": 60, "evictable_bytes": 40}]},
    "budget": {"reserved_bytes": 0, "waiting": 0},
    "workers": {"waiting": 0, "states": {"starting": 0, "idle": 2, "busy": 0, "condemned": 0}},
    "ranks": {"in_flight": 0, "progress": {"running": 0, "waiting": 0, "kv_tokens": 0}},
}


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("requests", {"in_flight": 1}),
        ("arena", {"leases": 1}),
        ("arena", {"regions": [{"length_bytes": 100, "free_bytes": 60, "evictable_bytes": 39}]}),
        ("budget", {"reserved_bytes": 1}),
        ("budget", {"waiting": 1}),
        ("workers", {"states": {"idle": 1, "condemned": 1}}),
        ("ranks", {"in_flight": 1}),
        ("ranks", {"progress": None}),
        ("ranks", {"progress": {"running": 0, "waiting": 0, "kv_tokens": 5}}),
    ],
)
def test_whatever_is_left_in_the_books_is_seen(part: str, more: dict[str, Any]) -> None:
    assert not busy(IDLE)
    assert busy(IDLE | {part: IDLE[part] | more})
