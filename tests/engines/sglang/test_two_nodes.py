"""Two nodes: the same answers, features cross the network once, and a lost node leaves nothing on the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from PIL import Image
from sglang_live import is_alive, maps_an_arena, part, text
from sglang_nodes import Nodes, nodes
from sglang_work import CHINA, FLOWER

from polling import until

LIMIT_S = 120.0
PICTURES = [photograph.crop((9 * at, 0, 9 * at + 420, 420)) for at in range(3) for photograph in (CHINA, FLOWER)]


class Seen(NamedTuple):
    """Answers to new pictures and to the same again, and what the second node received meanwhile."""

    new: list[list[str]]
    again: list[list[str]]
    new_bytes: int
    again_bytes: int


def ask(running: Nodes, question: str) -> tuple[list[list[str]], int]:
    before = running.network.received_bytes(1)
    given = [running.server.answers([part(picture), text(question)]) for picture in PICTURES]
    return given, running.network.received_bytes(1) - before


def observe(running: Nodes) -> Seen:
    running.server.answers([part(Image.new("RGB", (56, 56), "red")), text("?")])
    new, new_bytes = ask(running, "What is this?")
    again, again_bytes = ask(running, "And what else is this?")
    return Seen(new, again, new_bytes, again_bytes)


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What SGLang does with the plugin, which has no key and says so."""
    logs = tmp_path_factory.mktemp("nodes") / "alone"
    with nodes(folder, logs, plugins="mmplane", keyed=False) as running:
        seen = observe(running)
        for node in running.nodes:
            assert node.log().count("mmplane: off: several nodes share no memory") == 1
    return seen


@pytest.fixture(scope="module")
def running(folder: Path, alone: Seen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(folder, tmp_path_factory.mktemp("nodes") / "plugin", plugins="mmplane") as both:
        yield both


def carried(running: Nodes) -> float:
    return running.server.figures().get("features_carried", 0)


def test_answers_are_the_same_and_features_cross_once(running: Nodes, alone: Seen) -> None:
    numbers = iter(range(1, 1000))

    def carries() -> bool:
        shade = next(numbers)
        running.server.answers([part(Image.new("RGB", (56, 56), (shade % 256, 0, 99))), text("?")])
        return carried(running) > 0

    until(carries, LIMIT_S, "the mirror has joined, and all ranks")
    before = running.server.figures()
    seen = observe(running)
    assert (seen.new, seen.again) == (alone.new, alone.again)
    assert len({texts[0] for texts in seen.new}) > 1, "the answers depend on the pictures"

    count = 2 * len(PICTURES) + 1
    until(lambda: carried(running) == before["features_carried"] + count, LIMIT_S, "all went through the arena")
    until(lambda: running.server.figures()["arena_leases"] == 0, LIMIT_S, "no rank of either node holds a lease")
    figures = running.server.figures()
    assert figures["arena_mirrors"] == 1
    assert figures["arena_copied_bytes"] == figures["features_written_bytes"], "once, and only once"
    feature_bytes = figures["features_written_bytes"] - before["features_written_bytes"]
    print(f"features {feature_bytes:.0f}, SGLang alone {alone}, with the plugin {seen}")
    assert alone.again_bytes - seen.again_bytes > 0.9 * feature_bytes, "SGLang sends them again"
    for node in running.nodes:
        assert len(node.ranks()) == 1
        assert all(map(maps_an_arena, node.ranks()))
    assert running.segments() == []


def test_a_lost_node_leaves_nothing_on_the_other(running: Nodes) -> None:
    """The mirror ends with its node. SGLang cannot go on without its rank; until it ends, nothing goes another way."""
    server = running.server
    running.nodes[1].kill()

    def is_refused() -> bool:
        try:
            return server.chat([part(PICTURES[0].rotate(90)), text("?")]).status_code >= 500
        except httpx.HTTPError:
            return True

    assert is_refused()
    server.tokenizer.terminate()
    until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "every process of the first node has ended")
    assert running.segments() == []
