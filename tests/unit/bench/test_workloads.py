"""Workloads: valid requests of this server, with media of their own, and known ones only where the name says so."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from mmplane.bench.inputs.sources import Source, encoded
from mmplane.bench.inputs.workloads import (
    REPEATS_PERCENT,
    SIZES_MB,
    WORKLOADS,
    from_file,
    render,
    repeats,
    sized,
)
from mmplane.bench.run.campaign import split
from mmplane.frontend.body.schema import parse

JPEG = encoded(Source("image", 0, 32, 32))


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "text" and not name.startswith("repeat:")])
def test_every_request_has_items_of_its_own(name: str) -> None:
    load = WORKLOADS[name].make(10, 1)
    used = [index for request in load.requests for index in request.items]
    assert sorted(used) == list(range(len(load.sources)))
    assert len(set(load.sources)) == len(load.sources) >= 10


@pytest.mark.parametrize("percent", REPEATS_PERCENT)
@pytest.mark.parametrize("repetitions", [1, 2, 3])
def test_in_repeat_the_stated_share_is_known_in_each_turn(percent: int, repetitions: int) -> None:
    workload = WORKLOADS[f"repeat:{percent}"]
    requests = workload.make(workload.requests, 1).requests
    turns = [split(requests, workload.period, repetitions, each) for each in range(repetitions)]
    for turn in turns:
        new = {request.items[0] for request in turn}
        assert len(turn) - len(new) == len(turn) * percent // 100
    assert sum(map(len, turns)) == workload.requests


def test_a_share_holds_in_a_short_run_too() -> None:
    assert [20 - len(set(repeats(20, percent))) for percent in REPEATS_PERCENT] == [0, 10, 16, 19]


def test_many_images_has_28_of_them_in_each_request() -> None:
    assert [len(request.items) for request in WORKLOADS["many-images"].make(3, 1).requests] == [28] * 3


@pytest.mark.parametrize("name", ["photo", "video-2mb", "audio", "many-images", "text", "mixed"])
def test_bodies_are_valid_requests_with_their_media_in_them(name: str) -> None:
    load = WORKLOADS[name].make(2, 7)
    for request in (*load.requests, *load.background):
        parsed = parse(render(request, [JPEG] * len(load.sources), b"a note"))
        assert len(parsed.media) == len(request.items)
        assert parsed.mmplane is not None
        assert (parsed.stream, parsed.mmplane.trace, parsed.mmplane.ignore_eos) == (True, True, True)


def test_the_note_makes_another_file_of_the_same_media() -> None:
    (request,) = WORKLOADS["photo"].make(1, 1).requests
    assert render(request, [JPEG], b"one") != render(request, [JPEG], b"two")


@pytest.mark.parametrize("megabytes", SIZES_MB)
def test_sized_photographs_have_features_of_their_size(megabytes: int) -> None:
    source = sized(megabytes).make(1, 1).sources[0]
    assert isinstance(source, Source)
    assert source.width * source.height * 24 == pytest.approx(megabytes * 1e6, rel=0.12)


def test_a_file_of_requests_is_a_workload(tmp_path: Path) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
    lines = [
        {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": each}]} for each in (content, "hi")
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    workload = from_file(tmp_path / "own.jsonl")
    load = workload.make(4, 1)
    assert (workload.name, workload.requests) == ("own", 2)
    assert [request.items for request in load.requests] == [(0,), (), (1,), ()]
    assert load.sources == (JPEG, JPEG)
    assert len(parse(render(load.requests[0], [JPEG, JPEG], b"note")).media) == 1


@pytest.mark.parametrize("line", ["not JSON", "{}", '{"messages": 3}', ""])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"line 1|between 1 and"):
        from_file(tmp_path / "bad.jsonl")
