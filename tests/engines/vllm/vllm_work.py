"""What is asked of vLLM with the plugin and without: sixty requests of every kind, one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from PIL import Image
from sklearn.datasets import load_sample_image
from vllm_live import VLLM, body, part, text

CHINA, FLOWER = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))
LARGE = CHINA.resize((2016, 2016))
"""24 MB of features: more than vLLM's ring takes, which goes another way."""


def crops(photograph: Image.Image, count: int) -> list[dict[str, Any]]:
    """Pieces of a photograph, each of another size."""
    sizes = [(160 + 28 * at, 300 - 12 * at) for at in range(count)]
    return [part(photograph.crop((9 * at, 7 * at, 9 * at + w, 7 * at + h))) for at, (w, h) in enumerate(sizes)]


def conversations() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(kind, content, fields) of some more than sixty requests."""
    china, flower = crops(CHINA, 12), crops(FLOWER, 12)
    for one in [part(CHINA), part(FLOWER), *china, *flower]:
        yield "one", [one, text("What is this?")], {}
    for one in (CHINA, FLOWER):
        yield "large", [part(one.resize((1288, 966))), text("What is this?")], {}
    yield "over 16 MB", [part(LARGE), text("What is this?")], {}
    for at in range(0, 12, 2):
        yield "three", [china[at], text("and"), flower[at], flower[at + 1], text("?")], {}
    for at in range(3):
        yield "six", [*china[at : at + 3], text("and"), *flower[at : at + 3], text("?")], {}
    for at in range(8):
        yield "repeat", [china[at], text(f"What is this, the {at}th time?")], {}
    for at in range(4):
        yield "prefix", [flower[at], text("What is this?")], {}
    for at in range(4):
        yield "uuid", [{**flower[at // 2], "uuid": f"picture {at // 2}"}, text(f"By name {at}?")], {}
    for at in range(4):
        yield "three samples", [flower[at], text("Three times?")], {"n": 3, "temperature": 1, "top_k": 1}
    for at in range(4):
        yield "stream", [text("Look:"), china[at]], {"stream": True}


Answer = tuple[str, list[list[tuple[str, float]]]]
"""The kind, and of each choice its tokens with their log probabilities."""


def answers(server: VLLM) -> list[Answer]:
    """What it says to each."""
    return [(kind, answer(server, content, **fields)) for kind, content, fields in conversations()]


def answer(server: VLLM, content: Any, **fields: Any) -> list[list[tuple[str, float]]]:
    """Tokens and log probabilities of each choice."""
    if fields.get("stream"):
        return [streamed(server, content, **fields)]
    given = server.chat(content, logprobs=True, **fields)
    assert given.status_code == 200, given.text
    return [_tokens(choice["logprobs"]) for choice in given.json()["choices"]]


def streamed(
    server: VLLM, content: Any, *, first: Callable[[], None] = lambda: None, **fields: Any
) -> list[tuple[str, float]]:
    """Tokens and log probabilities of a stream with one choice. `first` is called when the first of them is there."""
    tokens: list[tuple[str, float]] = []
    asked = body(content, logprobs=True, **fields) | {"stream": True}
    with server.http.stream("POST", "/v1/chat/completions", json=asked) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: {"):
                had = bool(tokens)
                tokens += [one for choice in json.loads(line[6:])["choices"] for one in _tokens(choice.get("logprobs"))]
                if tokens and not had:
                    first()
    return tokens


def _tokens(logprobs: dict[str, Any] | None) -> list[tuple[str, float]]:
    return [(one["token"], one["logprob"]) for one in (logprobs or {}).get("content") or ()]


def leave(server: VLLM, picture: Image.Image, **fields: Any) -> None:
    """Ask for a stream about a picture, and go away with the first byte."""
    asked = body([part(picture), text("Go on.")], stream=True, max_tokens=500, ignore_eos=True, **fields)
    with server.http.stream("POST", "/v1/chat/completions", json=asked) as response:
        next(response.iter_bytes())


def leave_waiting(server: VLLM, picture: Image.Image) -> httpx.TimeoutException | None:
    """Ask about a picture, and go away before there is an answer."""
    try:
        server.http.post(
            "/v1/chat/completions",
            json=body([part(picture), text("Wait.")], max_tokens=500, ignore_eos=True),
            timeout=1.0,
        )
    except httpx.TimeoutException as error:
        return error
    return None
