"""Every design of the analyses on one SGLang server with two ranks, switched from one to the next while it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sglang_live import ARENA_BYTES, SGLang, body, part, serving, text
from sglang_work import CHINA, FAULTY, FLOWER, GOOD

from mmplane.engines.sglang.designs.names import DESIGNS
from polling import until

RANKS = 2
COUNT = 50
LIMIT_S = 60.0
BY_LEADER = ("leader", "leader-batch", "leader-async")
SHARED = (*BY_LEADER, "delayed", "delayed-async")
STRUCK = [(point, rank) for point in ("materialise", "before_collective", "in_collective") for rank in range(RANKS)]
"""In the order of widths in `plugins/mmplane_faults.py`."""

Answers = list[list[str]]


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SGLang]:
    """A server that begins with SGLang's own way. What it has encoded once it encodes again: features must arrive."""
    log = tmp_path_factory.mktemp("modes") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLANE_SGLANG_DESIGN", "default")
        patch.setenv("MMPLANE_SGLANG_PROCESSOR", "off")
        patch.setenv("SGLANG_VLM_CACHE_SIZE_MB", "0")
        with serving(folder, tp=RANKS, plugins="mmplane,faults", arena_bytes=ARENA_BYTES, log=log) as running:
            yield running


@pytest.fixture(scope="module")
def defaults(server: SGLang) -> Answers:
    """The answers of SGLang's own way."""
    return answers(server, "default")


def switch(server: SGLang, name: str, **fields: Any) -> Any:
    """PUT the design; what the server says is on."""
    answered = server.http.put("/mmplane/design", json={"name": name, **fields})
    assert answered.status_code == 200, answered.text
    server.http.post("/flush_cache").raise_for_status()
    return answered.json()


def answers(server: SGLang, name: str) -> Answers:
    """Fifty requests by this design, none of which finds anything in a cache of another's."""
    assert switch(server, name)["design"] == name
    given = [ask(server, at) for at in range(COUNT)]
    assert sum(map(len, given)) == COUNT + 2 * (COUNT // 10)
    return given


def ask(server: SGLang, at: int) -> list[str]:
    """One picture, two, three samples of one, or a stream, by number."""
    left, top = 7 * at, 5 * at
    one = part(CHINA.crop((left, top, left + 84 + 28 * (at % 5), top + 84)))
    asked = [one, text("What is this?")]
    match at % 10:
        case 3:
            return server.answers(asked, n=3, max_tokens=4)
        case 5:
            return server.answers([one, text("and"), part(FLOWER.crop((left, top, left + 56, top + 84)))], max_tokens=4)
        case 7:
            return [streamed(server, asked)]
    return server.answers(asked, max_tokens=4)


def streamed(server: SGLang, asked: list[dict[str, Any]]) -> str:
    """The text of a streamed answer."""
    with server.http.stream("POST", "/v1/chat/completions", json=body(asked, stream=True, max_tokens=4)) as response:
        assert response.status_code == 200
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines)


def struck(at: int) -> list[dict[str, Any]]:
    """A picture that meets the fault of this number."""
    return [part(CHINA.crop((at, at, at + 14 * (10 + 4 * at), at + 112))), text("What is this?")]


def strikes(name: str, point: str, rank: int) -> bool:
    """Whether this rank comes by this point in this design."""
    if point == "materialise":
        return rank == 0 or name not in BY_LEADER
    return name in SHARED


def accounts(server: SGLang, name: str) -> list[tuple[int, int]]:
    """(built, failed) that each rank has said of this design, when the next one took over: the last of each rank."""
    found = re.findall(rf"rank (\d): \S+ builds from here on; before it {name} built (\d+), failed (\d+)", server.log())
    last = {int(rank): (int(built), int(failed)) for rank, built, failed in found}
    return [last[rank] for rank in range(RANKS)]


def test_the_arenas_features_alone_go_through_it(server: SGLang) -> None:
    for name in ("default", "eager", "arena"):
        switch(server, name)
        assert server.answers(GOOD)
    until(lambda: server.figures().get("features_carried") == 1, LIMIT_S, "one of three was counted")


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_answers_as_the_default_and_survives_a_failure_on_either_rank(
    server: SGLang, defaults: Answers, name: str
) -> None:
    assert answers(server, name) == defaults
    good = server.answers(GOOD)
    failed = [server.chat(struck(at)).status_code for at in range(len(STRUCK))]
    assert failed == [500 if strikes(name, *fault) else 200 for fault in STRUCK]
    assert server.chat(FAULTY).status_code == 500
    assert server.answers(GOOD) == good
    switch(server, "leader" if name == "default" else "default")
    assert server.answers(GOOD)
    (built, bad), other = accounts(server, name)
    assert (built, bad) == other, "ranks agree"
    assert bad == 1 + failed.count(500)
    assert built >= COUNT


def test_a_share_of_the_requests_tries_a_design(server: SGLang) -> None:
    assert switch(server, "leader", share=0.5) == {"design": "default", "trial": "leader", "share": 0.5}
    for _ in range(4):
        assert server.answers(GOOD)
    assert len(re.findall(r"rank 0: leader builds from here on; before it default built 1", server.log())) >= 1
    assert switch(server, "leader", share=0.0)["share"] == 0.0


def test_a_switch_to_what_there_is_not_is_refused(server: SGLang) -> None:
    for wrong in ({"name": "none"}, {"name": "leader", "share": 2}, {"share": 1}):
        assert server.http.put("/mmplane/design", json=wrong).status_code == 400
    assert server.answers([part(Image.new("RGB", (56, 56), "red")), text("?")])
