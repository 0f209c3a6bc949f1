"""The same tokens as plain transformers at every number of ranks; the same features on every rank."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from blake3 import blake3
from live import Live
from pictures import noise, part, photograph, text
from reference import Reference

from polling import until

TOKENS_MAX = 8
MARGIN_MIN = 1e-3
"""Below this two orders of summation may rightly differ in which token is best."""

CHINA, FLOWER = photograph("china"), photograph("flower")
CONVERSATIONS: dict[str, tuple[Any, list[bytes]]] = {
    "china": ([part(CHINA), text("What is this?")], [CHINA]),
    "flower": ([part(FLOWER), text("What is this?")], [FLOWER]),
    "both": ([text("Compare"), part(CHINA), text("and"), part(FLOWER)], [CHINA, FLOWER]),
    "both turned": ([text("Compare"), part(FLOWER), text("and"), part(CHINA)], [FLOWER, CHINA]),
    "text": ("Hello, who are you?", []),
    "long text": ("Tell me more. " * 90, []),
    "noise": ([part(noise(1)), text("?")], [noise(1)]),
    "wide": ([part(noise(2, 280, 56)), text("?")], [noise(2, 280, 56)]),
}


@pytest.fixture(scope="session")
def expected(reference: Reference) -> dict[str, list[int]]:
    answers = {}
    for name, (content, media) in CONVERSATIONS.items():
        answer = reference.expected(content, media, TOKENS_MAX)
        assert answer.margin > MARGIN_MIN, f"choose another conversation than {name!r}: margin {answer.margin}"
        answers[name] = answer.tokens
    assert answers["china"] != answers["flower"], "the answer must depend on the picture"
    assert answers["both"] != answers["both turned"], "the answer must depend on the order of pictures"
    return answers


LIKELIEST = {"temperature": 1, "top_k": 1}
"""Draws from all logits what greedy decoding takes, which needs only the largest."""


def ask(live: Live, name: str, **fields: Any) -> dict[str, Any]:
    answer = live.chat(CONVERSATIONS[name][0], max_tokens=TOKENS_MAX, mmplane={"trace": True}, **fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_each_alone(tp: int, server_of: Callable[[int], Live], expected: dict[str, list[int]]) -> None:
    for name, tokens in expected.items():
        body = ask(server_of(tp), name)
        assert body["mmplane"]["trace"]["token_ids"] == [tokens], name
        assert body["usage"]["completion_tokens"] == len(tokens)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_all_together(tp: int, server_of: Callable[[int], Live], expected: dict[str, list[int]]) -> None:
    names = [*expected] * 3
    how: list[dict[str, Any]] = [LIKELIEST if number % 3 == 1 else {} for number in range(len(names))]
    live = server_of(tp)
    with ThreadPoolExecutor(len(names)) as threads:
        bodies = list(threads.map(lambda name, fields: ask(live, name, **fields), names, how))
    for name, body in zip(names, bodies, strict=True):
        assert body["mmplane"]["trace"]["token_ids"] == [expected[name]], name


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_every_rank_sees_the_processors_own_features(
    tp: int, server_of: Callable[[int], Live], reference: Reference
) -> None:
    for name in ("china", "both", "wide"):
        trace = ask(server_of(tp), name)["mmplane"]["trace"]
        for item, media in zip(trace["items"], CONVERSATIONS[name][1], strict=True):
            features = reference.features(media)["pixel_values"].contiguous()
            assert item["shape"] == list(features.shape)
            assert item["dtype"] == "float32"
            digest = blake3(features.numpy().tobytes()).hexdigest()
            assert item["digests"] == {str(rank): digest for rank in range(tp)}


@pytest.mark.parametrize("tp", [2, 4])
def test_ranks_keep_one_log(tp: int, server_of: Callable[[int], Live]) -> None:
    live = server_of(tp)
    ask(live, "china")

    def level() -> list[dict[str, Any]] | None:
        ranks = live.statistics()["ranks"]["progress"]["ranks"]
        return ranks if len({report["number"] for report in ranks}) == 1 else None

    ranks = until(level, 60, "all ranks have reported the newest plan")
    assert [report["rank"] for report in ranks] == list(range(tp))
    assert len({report["digest"] for report in ranks}) == 1
    assert ranks[0]["number"] > 0
