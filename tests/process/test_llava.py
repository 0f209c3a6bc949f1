"""Another architecture from a local folder: fixed-size pictures, one-dimensional positions, another template."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from live import Live, serving
from llava import TEMPLATE, build_llava
from pictures import noise, part, photograph, text
from reference import Reference

from clips import clip_part, encode, moving

TOKENS_MAX = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "llava"
    build_llava(path)
    return path


@pytest.fixture(scope="module")
def llava(folder: Path) -> Iterator[Live]:
    with serving(folder) as live:
        yield live


def test_tokens_and_features(llava: Live, folder: Path) -> None:
    reference = Reference(folder)
    reference.tokenizer.chat_template = TEMPLATE
    seen = set()
    for media in ([photograph("china")], [photograph("flower")], [noise(1), noise(2, 300, 40)], []):
        content = [*map(part, media), text("What is this?")]
        expected = reference.expected(content, media, TOKENS_MAX)
        assert expected.margin > 1e-3
        answer = llava.chat(content, max_tokens=TOKENS_MAX, mmplane={"trace": True}).json()
        trace = answer["mmplane"]["trace"]
        assert trace["token_ids"] == [expected.tokens]
        seen.add(str(expected.tokens))
        for item, image in zip(trace["items"], media, strict=True):
            digest = blake3(reference.features(image)["pixel_values"].numpy().tobytes()).hexdigest()
            assert item["digests"] == {"0": digest, "1": digest}
            assert item["shape"] == [1, 3, 84, 84]
    assert len(seen) == 4, "the answers must depend on the pictures"


def test_content_that_is_a_string_arrives(llava: Live) -> None:
    """Its template loops over parts: a string vanished without a word."""
    asked = [[{"role": "user", "content": content}] for content in ("What is this?", [text("What is this?")])]
    body = {"model": llava.chat("Hi").json()["model"], "max_tokens": TOKENS_MAX, "temperature": 0}
    answers = [llava.http.post("/v1/chat/completions", json=body | {"messages": each}).json() for each in asked]
    said, tokens = zip(*((each["choices"], each["usage"]["prompt_tokens"]) for each in answers), strict=True)
    assert said[0] == said[1]
    assert tokens[0] == tokens[1] > llava.chat("").json()["usage"]["prompt_tokens"] + 5


def test_what_it_does_not_take_it_says(llava: Live) -> None:
    for content, what in (
        ([clip_part(encode(moving(4)))], "clips"),
        (
            [{"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}}],
            "sounds",
        ),
    ):
        answer = llava.chat([*content, text("?")])
        assert answer.status_code == 422
        assert answer.json()["error"]["message"] == f"this model takes no {what}"
        assert answer.json()["error"]["code"] == "unsupported_by_model"
