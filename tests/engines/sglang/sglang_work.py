"""What is asked of SGLang with the plugin and without: fifty requests of every kind, white images, and a faulty one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from PIL import Image
from sglang_live import FAULTY_SIZE, SGLang, body, part, text
from sklearn.datasets import load_sample_image

CHINA, FLOWER = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))

REQUESTS = int(os.environ.get("MMPLANE_SGLANG_REQUESTS", "46"))
"""Without the four that go away in between; `make test-sglang-versions REQUESTS=...` asks fewer."""

WHITE_SIZES = ((560, 280), (280, 560), (140, 1120))
"""Their features have the same bytes and the same shape."""

GOOD = [part(Image.new("RGB", (224, 112), "navy")), text("What is this?")]
FAULTY = [part(Image.new("RGB", FAULTY_SIZE, "green")), text("What is this?")]


def crops(photograph: Image.Image, count: int) -> list[dict[str, Any]]:
    """Pieces of a photograph, each of another size."""
    sizes = [(160 + 28 * at, 300 - 12 * at) for at in range(count)]
    return [part(photograph.crop((9 * at, 7 * at, 9 * at + w, 7 * at + h))) for at, (w, h) in enumerate(sizes)]


def conversations() -> list[tuple[str, Any, dict[str, Any]]]:
    """(kind, content, fields) of the requests that are answered in full: `REQUESTS` of 46, of every kind."""
    every = list(_conversations())
    return [every[at * len(every) // REQUESTS] for at in range(REQUESTS)]


def _conversations() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    china, flower = crops(CHINA, 12), crops(FLOWER, 12)
    for one in [part(CHINA), part(FLOWER), *china, *flower]:
        yield "one", [one, text("What is this?")], {}
    for at in range(0, 12, 2):
        yield "several", [china[at], text("and"), flower[at], flower[at + 1], text("?")], {}
    for at in range(6):
        yield "repeat", [china[at], text("What is this?")], {}
    for at in range(4):
        yield "three samples", [flower[at], text("Three times?")], {"n": 3}
    for at in range(4):
        yield "stream", [text("Look:"), china[at]], {"stream": True}


def answers(server: SGLang) -> list[tuple[str, list[str]]]:
    """(kind, texts) of each conversation, one after another; and four clients that go away in between."""
    given = []
    for at, (kind, content, fields) in enumerate(conversations()):
        if at % 12 == 11:
            _leave(server, at)
        given.append((kind, _answer(server, content, fields)))
    _leave(server, len(given))
    return given


def shared_by_white_images(server: SGLang) -> list[int]:
    """Cached tokens of white images of each size."""
    return [server.cached_tokens([part(Image.new("RGB", size, "white")), text("What?")]) for size in WHITE_SIZES]


def _answer(server: SGLang, content: Any, fields: dict[str, Any]) -> list[str]:
    if not fields.get("stream"):
        return server.answers(content, **fields)
    with server.http.stream("POST", "/v1/chat/completions", json=body(content, **fields)) as response:
        assert response.status_code == 200
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    return ["".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines)]


def _leave(server: SGLang, at: int) -> None:
    """Ask for a stream about a picture that nobody else sends, and go away with the first byte."""
    picture = part(FLOWER.crop((at, 0, at + 200, 200)))
    fields = {"stream": True, "max_tokens": 500, "ignore_eos": True}
    with server.http.stream("POST", "/v1/chat/completions", json=body([picture, text("Go on.")], **fields)) as response:
        next(response.iter_bytes())
