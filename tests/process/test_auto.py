"""`auto` with little room, and the eager deliveries without workers and without eagerness."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance import Right, ask, ask_picture, check_mixture, digest_of, post, settle, together
from live import Live, serving
from pictures import noise, part
from reference import Reference

from polling import until

MIB = 2**20
ROOM = ("--arena-bytes", str(4 * MIB), "--budget-bytes", str(32 * MIB), "--encoding", "float32")
"""Two workers' regions of 1.5 MiB each; half of the budget is for requests, where an item inline counts three times."""
HELD = {"point": "encode", "error": False, "delay_ms": 500}
"""The ranks keep an item's slot until they have encoded it."""
STEADY = 224, 168  # 0.9 MB of features
LARGE = 448, 336  # 3.6 MB
TOO_LARGE = 672, 448  # 7.2 MB


@pytest.fixture(scope="module")
def cramped(tiny_folder: Path) -> Iterator[Live]:
    with serving(tiny_folder, "--delivery", "auto", "--fault-injection", "on", *ROOM) as live:
        yield live


def reasons(live: Live) -> dict[str, int]:
    found: dict[str, int] = live.statistics()["delivery"]["auto"]
    return found


def test_a_burst_larger_than_the_arena(cramped: Live, reference: Reference) -> None:
    before = reasons(cramped)
    pictures = [noise(40_000 + index, *STEADY) for index in range(4)]

    def one(media: bytes) -> str:
        answer = post(cramped, [part(media)], fault=HELD, max_tokens=1)
        assert answer.status_code == 200, answer.text
        trace: dict[str, Any] = answer.json()["mmplane"]["trace"]
        assert set(trace["items"][0]["digests"].values()) == {digest_of(reference, media)}
        return str(trace["delivery"])

    taken = together(*(partial(one, media) for media in pictures))
    assert set(taken) == {"arena", "eager-compact"}
    now = reasons(cramped)
    assert now["arena_full"] - before.get("arena_full", 0) == taken.count("eager-compact")
    assert now["room"] - before.get("room", 0) == taken.count("arena")
    settle(cramped, 2)
    assert one(noise(40_010, *STEADY)) == "arena"


def test_an_item_larger_than_a_region(cramped: Live, reference: Reference) -> None:
    media = noise(40_020, *LARGE)
    ask_picture(cramped, digest_of(reference, media), media)
    assert reasons(cramped)["item_too_large"] == 1


def test_a_budget_that_refuses(cramped: Live) -> None:
    busy = [[part(noise(40_030 + index, *LARGE))] for index in range(3)]
    answers = together(*(partial(post, cramped, content, fault=HELD, max_tokens=1) for content in busy))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {200, 503}
    assert 503 in statuses
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 503)
    assert post(cramped, [part(noise(40_040, *TOO_LARGE))]).status_code == 413
    settle(cramped, 2)


def test_without_workers(tiny_folder: Path, right: dict[str, Right]) -> None:
    """The front end decodes on its own loop (analysis B1); what needs workers cannot be switched to."""
    with serving(tiny_folder, "--delivery", "eager", "--workers", "0") as live:
        check_mixture(live, right)
        for name in ("arena", "auto"):
            refused = httpx.put(live.url + "/admin/delivery", json={"name": name, "share": 0.5})
            assert refused.status_code == 400
        settle(live, 2)


@pytest.mark.parametrize("delivery", ["eager", "eager-compact"])
def test_lazy_items_are_decoded_by_every_rank(delivery: str, tiny_folder: Path, right: dict[str, Right]) -> None:
    with serving(tiny_folder, "--delivery", delivery, "--materialise", "lazy", "--cache", "on") as live:
        assert [ask(live, right, "wide")["items"][0]["cache_hit"] for _ in range(2)] == [False, True]
        check_mixture(live, right)

        def made() -> int:
            tally = live.statistics()["delivery"]["by_name"][delivery]
            count: int = tally["materialisations"]
            return count

        until(lambda: made() > 1, 60, "every rank has decoded")
        settle(live, 2)
