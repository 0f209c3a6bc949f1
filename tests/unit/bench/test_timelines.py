"""Timelines: asked of the server for the requests that were just sent, and drawn without inventing anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.report.timelines import bars, drawings, end_ms
from mmplane.bench.run import timelines as run
from mmplane.bench.run.progress import Progress
from mmplane.bench.run.settings import Options

SPANS = [
    ["queue", "frontend", 0.0, 1.0], ["materialise", "frontend", 5.0, 1.0], ["hold", "frontend", 6.0, 60.0],
    ["deliver", "rank 0", 10.0, 50.0], ["decode", "rank 0", 20.0, 15.0], ["transform", "rank 0", 35.0, 5.0],
    ["deliver", "rank 1", 12.0, 48.0], ["encode", "rank 1", 60.0, 4.0],
]  # fmt: skip
"""Rank 0 waits for ten milliseconds, makes the features for twenty and sends them for twenty; rank 1 waits for them."""


def request(at_s: float = 1.0) -> dict[str, Any]:
    return {"at_s": at_s, "ms": 70.0, "status": 200, "spans": SPANS}


def group(delivery: str, at_once: int, *requests: dict[str, Any]) -> dict[str, Any]:
    return {"workload": "photo", "tp": 2, "delivery": delivery, "at_once": at_once, "requests": list(requests)}


def test_a_request_becomes_what_its_processes_did() -> None:
    drawn = [(bar.lane, bar.kind.split(",")[0], bar.begin_ms, bar.long_ms) for bar in bars([request()])]
    assert sorted(drawn) == [
        ("frontend", "receive", 0.0, 5.0),
        ("frontend", "wait for ranks", 6.0, 4.0),
        ("rank 0", "materialise", 20.0, 15.0),
        ("rank 0", "materialise", 35.0, 5.0),
        ("rank 0", "wait", 10.0, 10.0),
        ("rank 0", "wait", 40.0, 20.0),
        ("rank 1", "the rank's step", 60.0, 4.0),
        ("rank 1", "wait", 12.0, 48.0),
    ]


def test_requests_are_shifted_by_when_they_came() -> None:
    both = [request(1.0), request(1.5)]
    assert [bar.begin_ms for bar in bars(both) if bar.kind == "receive"] == [0.0, 500.0]
    assert end_ms(group("arena", 2, *both)) == pytest.approx(570.0)


def test_there_is_a_drawing_for_each_design() -> None:
    groups = [group(name, count, *[request()] * count) for name in ("leader", "arena") for count in (1, 2)]
    drawn = drawings(groups)
    assert list(drawn) == ["leader.svg", "arena.svg"]
    assert all("one request" in each and "2 requests at once" in each for each in drawn.values())


class Served:
    """A server that answers everything, and knows what it was asked."""

    def __init__(self) -> None:
        self.switched: list[tuple[str, bool]] = []
        self.sent: list[int] = []

    def switch(self, delivery: str, *, cache: bool) -> None:
        self.switched.append((delivery, cache))

    def requests(self) -> list[dict[str, Any]]:
        return [{"number": number} for number in reversed(range(sum(self.sent)))]


def test_the_timelines_are_those_of_the_requests_that_were_just_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Served()

    @contextmanager
    def serving(*_: Any, **__: Any) -> Iterator[Served]:
        yield server

    def send(_: Any, plan: Any, *__: Any) -> None:
        assert all(b'"trace":false' in each.body for each in plan.requests)
        server.sent.append(len(plan.requests))

    monkeypatch.setattr(run, "serving", serving)
    monkeypatch.setattr(run, "made", lambda sources, _: iter(sources))
    monkeypatch.setattr(run.turns, "send", send)
    options = Options(deliveries=("leader", "arena"), model_folder="", runner="null")
    found = run.timelines(WORKLOADS["photo"], 4, options, Progress())
    assert server.switched == [("leader", False), ("arena", True)]
    assert server.sent == [1, 1, 10] * 2
    assert [(each["delivery"], [request["number"] for request in each["requests"]]) for each in found] == [
        ("leader", [1]),
        ("leader", list(range(2, 12))),
        ("arena", [13]),
        ("arena", list(range(14, 24))),
    ]
