"""The second turn of a chat computes what is new, and answers as if it had computed everything.

`MMPLANE_CONVERSATIONS=200` asks for more conversations than the suite has time for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from conformance import switch
from live import Live
from pictures import noise, part, text

from mmplane.ranks.plan.blocks import BLOCK_TOKENS

CONVERSATIONS = int(os.environ.get("MMPLANE_CONVERSATIONS", "3"))
TOKENS_MAX = 6


def ask(live: Live, *messages: dict[str, Any]) -> dict[str, Any]:
    answer = live.chat("", messages=list(messages), max_tokens=TOKENS_MAX, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def cached(answer: dict[str, Any]) -> int:
    count: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def encoded(answer: dict[str, Any]) -> list[int]:
    """Items that went through the encoder, by rank."""
    return [rank["encoded"] for rank in answer["mmplane"]["trace"]["ranks"]]


@pytest.mark.parametrize("tp", [1, 2])
def test_a_second_turn_computes_what_is_new(server_of: Callable[[int], Live], tp: int) -> None:
    live = server_of(tp)
    for number in range(CONVERSATIONS):
        first = [user(part(noise(10_000 * tp + number)), text("What is this?"))]
        one = ask(live, *first)
        second = [*first, {"role": "assistant", "content": "A picture."}, user(text(f"Which one of {number}?"))]
        two = ask(live, *second)
        left, new = (two["usage"]["prompt_tokens"] - count for count in (cached(two), one["usage"]["prompt_tokens"]))
        assert left <= new + BLOCK_TOKENS
        assert (encoded(one), encoded(two)) == ([1] * tp, [0] * tp)
        switch(live, "arena", cache="off")
        plain = ask(live, *second)
        switch(live, "arena")
        assert (cached(plain), encoded(plain)) == (0, [1] * tp)
        assert two["mmplane"]["trace"]["token_ids"] == plain["mmplane"]["trace"]["token_ids"]


def test_another_picture_in_the_same_place_is_not_reused(server: Live) -> None:
    """Its tokens are the same placeholders; only its content tells it apart."""
    question = text("What is this?")
    one, other, again = (ask(server, user(part(noise(seed, 280, 280)), question)) for seed in (30_001, 30_002, 30_001))
    usage = other["usage"]
    of_text = usage["prompt_tokens"] - usage["prompt_tokens_details"]["image_tokens"]
    assert one["usage"]["prompt_tokens"] == usage["prompt_tokens"]
    assert cached(other) <= of_text < cached(again), "at most what comes before the picture"
    assert [encoded(answer) for answer in (one, other, again)] == [[1, 1], [1, 1], [0, 0]]


def test_samples_share_a_prompt_and_write_apart(server: Live) -> None:
    """The same seed gives the same answers whether the prompt was shared with an earlier request or not."""
    content = [part(noise(30_003)), text("Tell me three things.")]
    fields = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": TOKENS_MAX, "mmplane": {"trace": True}}
    one, two = (server.chat(content, **fields).json() for _ in range(2))
    assert cached(two) > 0
    assert one["mmplane"]["trace"]["token_ids"] == two["mmplane"]["trace"]["token_ids"]
