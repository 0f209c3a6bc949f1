"""What an encoder made of a picture is kept: the picture's next request runs no encoder, and has the same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from live import Live
from pictures import noise, part, text
from reference import Reference

from polling import until

TOKENS = 8


def trace(live: Live, content: list[Any], **fields: Any) -> dict[str, Any]:
    answer = live.chat(content, max_tokens=TOKENS, mmplane={"trace": True, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["mmplane"]["trace"]
    return found


@pytest.mark.parametrize("tp", [1, 2])
def test_a_pictures_second_request_runs_no_encoder(
    tp: int, server_of: Callable[[int], Live], reference: Reference
) -> None:
    live = server_of(tp)
    picture, other = noise(70_000 + tp), noise(70_010 + tp, 140, 84)
    before = live.statistics()["journal"]
    for question, media, encoded, hits in (
        ("What is this?", [picture], 1, [False]),
        ("Tell me more.", [picture], 0, [True]),
        ("Which is larger?", [other, picture, other], 1, [False, True, True]),
    ):
        content = [*map(part, media), text(question)]
        found = trace(live, content)
        assert found["token_ids"] == [reference.expected(content, media, TOKENS).tokens]
        assert [rank["encoded"] for rank in found["ranks"]] == [encoded] * tp
        assert [item["embedding_hit"] for item in found["items"]] == hits
    live.settle()  # a request is counted when its last byte has left
    after = live.statistics()["journal"]
    runs = {rank: count - before["encoder_runs"].get(rank, 0) for rank, count in after["encoder_runs"].items()}
    assert runs == {str(rank): 2 for rank in range(tp)}
    assert after["embedding_hits"] - before["embedding_hits"] == 3
    assert after["embedding_hits_needless"] == before["embedding_hits_needless"]


def test_a_request_that_failed_on_one_rank_is_encoded_again_there_alone(server: Live, reference: Reference) -> None:
    picture = noise(70_020)
    content = [part(picture), text("?")]
    fault = {"point": "encode", "rank": 1}
    answer = server.chat(content, max_tokens=1, mmplane={"fault": fault})
    assert answer.status_code == 500, answer.text
    found = trace(server, content)
    assert found["token_ids"] == [reference.expected(content, [picture], TOKENS).tokens]
    assert [rank["encoded"] for rank in found["ranks"]] == [0, 1]

    def passing_bytes() -> list[int]:
        return [rank["passing_bytes"] for rank in server.statistics()["ranks"]["progress"]["ranks"]]

    until(lambda: passing_bytes() == [0, 0], 60, "each rank has reported that nothing passes")
