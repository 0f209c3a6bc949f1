"""Rendering without pixels, beside ranks."""

from __future__ import annotations

from live import Live
from rendered import check_that_all_is_vllms

from render_requests import requests


def test_ids_placeholders_and_hashes_are_vllms(server: Live) -> None:
    """And nobody decodes anything. The server calls the model as that vLLM did (`SHARED_FLAGS`)."""
    before = server.statistics()
    check_that_all_is_vllms(lambda body: server.http.post("/v1/chat/completions/render", json=body))
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
