"""Fuzz targets: what strangers' bytes reach first. Each accepts, or raises our own error, and nothing else.

`make test` runs a few hundred examples of each; `make fuzz` runs each for a minute from a fresh seed (`run.py`), in a
process with a memory limit. What a fuzz run found stands in `REGRESSIONS`, as the bytes that found it.
"""

from __future__ import annotations

import base64
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given, strategies
from hypothesis.strategies import SearchStrategy
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parents[2] / "corpus"))

from make import encoded, picture

from mmplane.core.control import FromChild, ToFrontend, ToNursery
from mmplane.core.errors import RequestError
from mmplane.core.jobs import FromWorker, ToWorker
from mmplane.core.parsing import FromParser, ToParser
from mmplane.features.contract.arrays import views
from mmplane.features.contract.embeddings import EmbeddingForm
from mmplane.frontend.body.schema import parse
from mmplane.frontend.request.parser import take_apart
from mmplane.frontend.request.renderer import Renderer
from mmplane.frontend.sources.data_uri import decode_data_uri, inline_media
from mmplane.media.embeddings import examine, write
from mmplane.media.header import jpeg_scans
from mmplane.media.image import probe
from mmplane.models.tiny import CHAT_TEMPLATE, tiny_tokenizer

SEEDS = [encoded(picture(), name) for name in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")]
UNIONS = [ToWorker, FromWorker, ToParser, FromParser, FromChild, ToFrontend, ToNursery]
MESSAGE_LENGTH_MAX = 500
REGRESSIONS: dict[str, list[bytes]] = {
    "header": [b"GIF89a", b"\xff\xd8\xff\xe0"],
    "data_uri": [],
    "embeddings": [],
    "record": [],
    "schema": [],
}


def mutated(seeds: list[bytes]) -> SearchStrategy[bytes]:
    """A seed, cut somewhere, with some bytes replaced, inserted or repeated."""

    def apply(seed: bytes, cut: int, edits: list[tuple[int, bytes, bool]]) -> bytes:
        content = bytearray(seed[: cut % (len(seed) + 1)] if cut % 3 == 0 else seed)
        for at, piece, insert in edits:
            start = at % (len(content) + 1)
            content[start : start if insert else start + len(piece)] = piece
        return bytes(content)

    pieces = strategies.binary(min_size=1, max_size=8)
    edits = strategies.tuples(strategies.integers(0, 5000), pieces, strategies.booleans())
    return strategies.builds(
        apply, strategies.sampled_from(seeds), strategies.integers(0, 5000), strategies.lists(edits, max_size=8)
    )


def accepts_or_refuses(act: Any, *arguments: Any) -> None:
    """Any other exception than our own fails the target."""
    try:
        act(*arguments)
    except RequestError as refused:
        if not 400 <= refused.status < 500 or len(refused.message) > MESSAGE_LENGTH_MAX:
            raise


URI = b"data:image/png;base64," + base64.b64encode(SEEDS[1])
REQUEST = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": URI.decode(), "detail": "low"}, "uuid": "a"},
                {"type": "video_url", "video_url": {"url": "http://cat.test/"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "image_embeds", "image_embeds": "AAAA"},
            ],
        },
    ],
    "n": 2,
    "stop": ["a"],
    "temperature": 0.5,
    "seed": 3,
    "mmplane": {"trace": True, "video": {"frames": 4, "fps": 1.0}},
}
FORM = EmbeddingForm(token_id=7, width=4, merge=2)
EMBEDDINGS = [save({"image_embeds": torch.ones(6, 4, dtype=dtype), "image_grid_thw": torch.tensor([[1, 4, 6]])})
              for dtype in (torch.float32, torch.float16, torch.bfloat16)]  # fmt: skip
RENDERER = Renderer(tiny_tokenizer(), CHAT_TEMPLATE, 1000)
BODIES = [json.dumps(REQUEST).encode(), json.dumps(REQUEST).replace("/", "\\/").encode(), b"[]", b'{"model": 1}']


@given(strategies.one_of(mutated([URI]), strategies.binary(max_size=100).map(lambda tail: b"data:;base64," + tail)))
def test_data_uri(uri: bytes) -> None:
    accepts_or_refuses(decode_data_uri, uri)
    accepts_or_refuses(inline_media, msgspec.Raw(b'"' + uri + b'"'))


@given(mutated(SEEDS))
@example(REGRESSIONS["header"][0])
@example(REGRESSIONS["header"][1])
def test_header(media: bytes) -> None:
    accepts_or_refuses(probe, media)
    assert 0 <= jpeg_scans(media, 5) <= 5


@given(mutated(EMBEDDINGS))
def test_embeddings(content: bytes) -> None:
    accepts_or_refuses(take_embeddings, content)


def take_embeddings(content: bytes) -> None:
    recipe = examine(FORM, content)
    write(content, views(recipe.layout.tensors, memoryview(bytearray(recipe.layout.length_bytes))))


@given(mutated(BODIES))
def test_schema(body: bytes) -> None:
    accepts_or_refuses(parse, body)
    accepts_or_refuses(take_apart, memoryview(bytearray(body)), RENDERER)


records = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(-(2**63), 2**64 - 1),
        strategies.floats(),
        strategies.text(max_size=20),
        strategies.binary(max_size=20),
        strategies.sampled_from(["materialise", "materialised", "job_failed", "parse", "parsed", "spawn", "beat"]),
    ),
    lambda inner: strategies.lists(inner, max_size=8),
    max_leaves=30,
)


@pytest.mark.parametrize("union", UNIONS, ids=str)
@given(message=strategies.one_of(strategies.binary(max_size=300), records.map(msgspec.msgpack.encode)))
def test_record(union: Any, message: bytes) -> None:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # what a link turns into its own error
        msgspec.msgpack.Decoder(union).decode(message)
