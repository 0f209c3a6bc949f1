"""Counters of render processes: each writes its own row, all are told of by whichever is scraped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmplane.observe.exposition import exposition
from mmplane.render.tally import METRICS, Tally, create_tally

PROCESSES = 2


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = create_tally(PROCESSES)
    yield made
    os.close(made)


def answer(tally: Tally, status: int, *, items: int = 0, tokens: int = 0) -> None:
    journey = tally.begin([])
    journey.asked(["image"] * items)
    journey.prompt_tokens = tokens
    tally.end(journey, status, "")


def test_all_rows_are_seen_by_all(descriptor: int) -> None:
    first, second = (Tally(descriptor, PROCESSES, index) for index in (1, 2))
    answer(first, 200, items=3, tokens=100)
    answer(second, 200, items=1, tokens=10)
    answer(second, 413, items=5, tokens=7)
    for status in (499, 500, 503):
        answer(second, status)
    said = exposition(first.figures(), METRICS)
    assert said == exposition(second.figures(), METRICS)
    samples = [line for line in said.decode().splitlines() if not line.startswith("#")]
    assert samples == [
        'mmplane_render_requests_total{process="1",outcome="answered"} 1',
        'mmplane_render_requests_total{process="1",outcome="refused"} 0',
        'mmplane_render_requests_total{process="1",outcome="failed"} 0',
        'mmplane_render_requests_total{process="1",outcome="aborted"} 0',
        'mmplane_render_requests_total{process="2",outcome="answered"} 1',
        'mmplane_render_requests_total{process="2",outcome="refused"} 1',
        'mmplane_render_requests_total{process="2",outcome="failed"} 2',
        'mmplane_render_requests_total{process="2",outcome="aborted"} 1',
        'mmplane_render_items_total{process="1"} 3',
        'mmplane_render_items_total{process="2"} 1',
        'mmplane_render_prompt_tokens_total{process="1"} 100',
        'mmplane_render_prompt_tokens_total{process="2"} 10',
    ]


def test_a_successor_goes_on_where_its_predecessor_ended(descriptor: int) -> None:
    answer(Tally(descriptor, PROCESSES, 2), 200)
    answer(successor := Tally(descriptor, PROCESSES, 2), 200)
    assert successor.figures().now["2"]["answered"] == 2


def test_the_page_lists_the_metrics() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sidecar.md").read_text()
    listed = re.findall(r"^\| `(mmplane_render_\w+)` \| ([\w, ]+) \|", page, re.MULTILINE)
    assert listed == [(metric.name, ", ".join(metric.labels)) for metric in METRICS]
