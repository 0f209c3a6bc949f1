"""Rendering without pixels: what vLLM 0.32 renders of two hundred requests, recorded by tools/peers/vllm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from live import Live

from render_requests import requests

RECORDED = [json.loads(line) for line in Path(__file__).with_name("vllm_render.jsonl").read_text().splitlines()]


def test_ids_placeholders_and_hashes_are_vllms(server: Live) -> None:
    """And nobody decodes anything. The server calls the model as that vLLM did (`SHARED_FLAGS`)."""
    before = server.statistics()
    for number, (body, recorded) in enumerate(zip(requests(), RECORDED, strict=True)):
        answer = server.http.post("/v1/chat/completions/render", json=body | {"model": "tiny"})
        assert answer.status_code == 200, (number, answer.text)
        rendered = answer.json()
        ids, features = rendered["token_ids"], rendered["features"] or {}
        assert len(ids) == recorded["tokens"], number
        assert hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16] == recorded["token_ids"], number
        for name in ("mm_hashes", "mm_placeholders"):
            assert features.get(name) == recorded[name], (number, name)
    after = server.statistics()
    assert after["plane"] == before["plane"]
    assert after["workers"] == before["workers"]


def test_a_request_renders_as_it_is_answered(server: Live) -> None:
    body = {"model": "tiny", "messages": next(requests())["messages"], "max_tokens": 2}
    rendered = server.http.post("/v1/chat/completions/render", json=body).json()
    answer = server.http.post("/v1/chat/completions", json=body).json()
    assert len(rendered["token_ids"]) == answer["usage"]["prompt_tokens"]
    assert rendered["sampling_params"]["max_tokens"] == 2


def test_it_refuses_what_an_answer_would(server: Live) -> None:
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": [broken]}]}
    assert server.http.post("/v1/chat/completions/render", json=body).status_code == 400
    assert server.http.post("/v1/chat/completions/render", json=body | {"model": "other"}).status_code == 404
