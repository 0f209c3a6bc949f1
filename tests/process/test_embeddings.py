"""Embeddings from clients (analysis B1, hazard S9): in every delivery they answer as their picture does."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from blake3 import blake3
from conformance import PHOTO, SQUARE, WIDE, Right, post, switch
from live import Live
from pictures import noise, part, text
from reference import Reference
from safetensors.torch import save

QUESTION = text("What is this?")


@pytest.fixture
def live(server: Live) -> Iterator[Live]:
    yield server
    switch(server, "arena")


def seen(reference: Reference, media: bytes) -> dict[str, torch.Tensor]:
    """What a client computes: the rows of its own vision tower, and the grid of patches."""
    features = reference.features(media)
    with torch.inference_mode():
        rows = reference.model.model.get_image_features(**features).pooler_output
    return {"image_embeds": torch.cat(list(rows)).contiguous(), "image_grid_thw": features["image_grid_thw"]}


def embedded(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {"type": "image_embeds", "image_embeds": base64.b64encode(save(tensors)).decode()}


def answer(live: Live, content: list[Any], **fields: Any) -> dict[str, Any]:
    found = post(live, content, **fields)
    assert found.status_code == 200, found.text
    trace: dict[str, Any] = found.json()["mmplane"]["trace"]
    return trace


@pytest.mark.parametrize("delivery", ["original", "leader", "eager", "eager-compact", "arena"])
def test_embeddings_answer_as_their_picture_does(
    live: Live, reference: Reference, right: dict[str, Right], delivery: str
) -> None:
    switch(live, delivery)
    tensors = seen(reference, PHOTO)
    alone = answer(live, [text("Look:"), embedded(tensors)])
    assert alone["token_ids"] == [right["photo"].tokens]
    digest = blake3(tensors["image_embeds"].numpy().tobytes()).hexdigest()
    assert alone["items"][0]["digests"] == {"0": digest, "1": digest}
    between = [part(SQUARE), text("and"), embedded(seen(reference, WIDE)), text("and"), part(PHOTO)]
    assert answer(live, between, n=3)["token_ids"] == [right["several"].tokens] * 3


def test_embeddings_of_a_large_picture_go_through_the_parser(live: Live, reference: Reference) -> None:
    picture = noise(81_001, 616, 616)
    parsed = live.statistics()["bodies"]["parsed"]
    tensors = seen(reference, picture)
    shown, told = answer(live, [part(picture), QUESTION]), answer(live, [embedded(tensors), QUESTION])
    assert live.statistics()["bodies"]["parsed"] > parsed
    assert told["token_ids"] == shown["token_ids"]
    assert told["items"][0]["content_key"] != shown["items"][0]["content_key"]


def test_they_are_taken_in_once(live: Live, reference: Reference) -> None:
    content = [embedded(seen(reference, noise(81_002, 56, 56))), QUESTION]
    hits = [answer(live, content)["items"][0]["cache_hit"] for _ in range(2)]
    assert hits == [False, True]


def test_they_are_rendered_under_their_content_key(live: Live, reference: Reference) -> None:
    content = [embedded(seen(reference, PHOTO)), QUESTION]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    rendered = live.http.post("/v1/chat/completions/render", json=body)
    assert rendered.status_code == 200, rendered.text
    key = answer(live, content)["items"][0]["content_key"]
    assert rendered.json()["features"]["mm_hashes"] == {"image": [key]}


def test_what_the_model_does_not_take_is_that_requests_error_alone(live: Live, reference: Reference) -> None:
    tensors = seen(reference, PHOTO)
    rows, grid = tensors["image_embeds"], tensors["image_grid_thw"]
    for wrong in (
        {"image_embeds": rows[:, 1:].contiguous(), "image_grid_thw": grid},
        {"image_embeds": rows, "image_grid_thw": grid * 2},
        {"image_embeds": rows.where(rows != rows[0, 0], torch.nan), "image_grid_thw": grid},
    ):
        refused = post(live, [embedded(wrong), QUESTION])
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == "image_embeds"
    assert answer(live, [embedded(tensors), QUESTION])["token_ids"]
