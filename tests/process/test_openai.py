"""The official client, sync and async, streamed and not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import openai
import pytest
from live import Live
from openai.types.chat import ChatCompletionMessage
from pictures import noise, part, photograph, text

QUESTION = [part(photograph("china")), text("What is this?")]
ROUNDING = 1e-4
"""Of log probabilities: the second prompt may be found in the cache, and then less of it is computed at once."""


@pytest.fixture
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def messages(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "small"]


def test_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=messages(QUESTION), max_tokens=6, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.completion_tokens <= 6
    # A 640x427 picture is 23 x 15 merged patches of 28 x 28 pixels.
    assert answer.usage.prompt_tokens_details.image_tokens == 345
    assert answer.usage.prompt_tokens > 345
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_is_the_same_text(client: openai.OpenAI) -> None:
    fields = {"model": "tiny", "messages": messages(QUESTION), "max_tokens": 10, "temperature": 0}
    whole = client.chat.completions.create(**fields)
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_no_usage_unless_asked(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="tiny", messages=messages("Hi"), max_tokens=2, stream=True))
    assert all(chunk.usage is None for chunk in chunks)


def test_asynchronous_clients_together(server: Live) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def one(seed: int) -> str:
                content = [part(noise(200 + seed)), text("?")]
                stream = await client.chat.completions.create(
                    model="tiny", messages=messages(content), max_tokens=4, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one(seed) for seed in range(12)))

    assert len(asyncio.run(ask())) == 12


def test_seed_repeats_and_samples_differ(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        answer = client.chat.completions.create(
            model="tiny", messages=messages("Hello"), max_tokens=8, temperature=2.0, seed=seed, n=3
        )
        return [choice.message.content for choice in answer.choices]

    first, again, other = ask(1), ask(1), ask(2)
    assert first == again != other


def test_stop_text_ends_the_answer(client: openai.OpenAI) -> None:
    fields = {"model": "tiny", "messages": messages("Tell me something long"), "temperature": 0}
    whole = client.chat.completions.create(**fields, max_tokens=24).choices[0].message.content
    stop = next(whole[at] for at in range(2, len(whole)) if whole[at] != "\ufffd" and whole[at] not in whole[:2])
    answer = client.chat.completions.create(**fields, max_tokens=24, stop=[stop])
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_turns_with_images_in_each(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        max_tokens=2,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [part(noise(210)), text("This?")]},
            {"role": "assistant", "content": "Noise."},
            {"role": "user", "content": [text("And these?"), part(noise(211)), part(noise(212))]},
        ],
    )
    assert answer.usage.prompt_tokens_details.image_tokens == 3 * 4 * 3


def test_our_own_answer_is_sent_back_as_the_client_holds_it(client: openai.OpenAI) -> None:
    """Three turns with a picture each: the client's own objects, as they are and dumped."""

    def answers(held: Callable[[ChatCompletionMessage], Any]) -> list[tuple[str, int]]:
        said: list[Any] = []
        answered = []
        for seed in (220, 221, 222):
            said.append({"role": "user", "content": [part(noise(seed)), text("This?")], "name": "Ann"})
            answer = client.chat.completions.create(model="tiny", messages=said, max_tokens=6, temperature=0)
            answered.append((answer.choices[0].message.content, answer.usage.prompt_tokens))
            said.append(held(answer.choices[0].message))
        return answered

    plain = answers(lambda message: {"role": "assistant", "content": message.content})
    assert answers(lambda message: message) == plain
    assert answers(lambda message: message.model_dump()) == plain
    assert answers(lambda message: {**message.model_dump(), "tool_calls": [], "refusal": ""}) == plain


def test_what_cannot_change_an_answer_does_not(client: openai.OpenAI, server: Live) -> None:
    fields = {"model": "tiny", "messages": messages(QUESTION), "max_tokens": 6}
    said = client.chat.completions.create(**fields, temperature=0).choices[0].message.content
    assert client.chat.completions.create(**fields, top_p=0).choices[0].message.content == said
    hints = {
        "safety_identifier": "somebody",
        "prompt_cache_key": "chat 1",
        "service_tier": "flex",
        "verbosity": "medium",
        "reasoning_effort": "none",
        "stream": None,
        "response_format": None,
        "tools": [],
        "modalities": [],
    }
    assert server.chat(QUESTION, max_tokens=6, **hints).json()["choices"][0]["message"]["content"] == said


def test_base64_as_people_send_it(server: Live) -> None:
    encoded = base64.b64encode(photograph("china"))
    content = encoded.decode()
    lines = base64.encodebytes(photograph("china")).decode()
    right = server.chat(QUESTION, mmplane={"trace": True}).json()["mmplane"]["trace"]
    for url in (
        f"data:image/jpeg;base64,{lines}",
        f"DATA:image/jpeg;BASE64,{content.rstrip('=')}",
        f"data:image/jpeg;base64,{quote(content, safe='')}",
    ):
        answer = server.chat([{"type": "image_url", "image_url": {"url": url}}, QUESTION[1]], mmplane={"trace": True})
        trace = answer.raise_for_status().json()["mmplane"]["trace"]
        assert trace["token_ids"] == right["token_ids"]
        assert trace["items"][0]["content_key"] == right["items"][0]["content_key"]
    wrong = f"data:image/jpeg;base64,{content[:5000]}#{content[5000:]}"
    error = server.chat([{"type": "image_url", "image_url": {"url": wrong}}]).json()["error"]
    assert error["message"] == "the data URI is not valid base64: '#' at position 5000"


def test_paths_as_clients_write_them(server: Live) -> None:
    for base in ("//v1", "/v1/", "//v1//"):
        doubled = openai.OpenAI(base_url=f"{server.url}{base}", api_key="none", max_retries=0)
        assert doubled.chat.completions.create(model="tiny", messages=messages("Hi"), max_tokens=1).choices
        assert doubled.models.retrieve("tiny") == doubled.models.list().data[0]
    assert server.http.post("/v1/chat/completions/", json={}).status_code == 400
    for path in ("/health/", "//ready", "/v1/models/", "/v1/models/tiny/"):
        assert server.http.get(path).status_code == 200, path
        assert server.http.head(path).status_code == 200, path
    with pytest.raises(openai.NotFoundError) as missing:
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none").models.retrieve("org/other")
    assert missing.value.code == "model_not_found"


def test_errors_are_openais(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=messages("Hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=messages("Hi"), store=True)
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == "store"


def test_every_route_answers(server: Live) -> None:
    for route in ("/health", "/ready", "/metrics", "/v1/models", "/admin/delivery", "/admin/statistics"):
        assert server.http.get(route).status_code == 200, route
    delivery = server.http.get("/admin/delivery").json()
    assert (delivery["name"], delivery["share"]) == ("arena", 1.0)
    assert "mmplane_requests_total" in server.http.get("/metrics").text
    missing = server.http.get("/nowhere")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
    assert server.http.get("/v1/chat/completions").status_code == 405


def test_a_chats_prompt_is_completed_as_the_chat_is(client: openai.OpenAI, server: Live) -> None:
    """The prompt as tokens, as the text that they are, twice in a list, and as a stream."""
    chat = {"model": "tiny", "messages": messages("Tell me something"), "max_tokens": 8, "temperature": 0}
    said = client.chat.completions.create(**chat, logprobs=True, top_logprobs=2).choices[0]
    tokens = server.http.post("/v1/chat/completions/render", json=chat).json()["token_ids"]
    prompt = "<|im_start|>user\nTell me something<|im_end|>\n<|im_start|>assistant\n"
    fields = {"model": "tiny", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(prompt=prompt, **fields, logprobs=2)
    assert (whole.choices[0].text, whole.usage.prompt_tokens) == (said.message.content, len(tokens))
    logprobs = whole.choices[0].logprobs
    assert logprobs.token_logprobs == pytest.approx([each.logprob for each in said.logprobs.content], abs=ROUNDING)
    assert "".join(logprobs.tokens) == whole.choices[0].text
    assert [len(each) for each in logprobs.top_logprobs] == [2] * len(logprobs.tokens), "the likeliest was drawn"
    both = client.completions.create(prompt=[tokens, tokens], **fields, echo=True)
    assert [choice.text for choice in both.choices] == [prompt + said.message.content] * 2
    assert both.usage.prompt_tokens == 2 * len(tokens)
    stream = client.completions.create(prompt=prompt, **fields, stream=True, stream_options={"include_usage": True})
    *events, last = stream
    assert "".join(event.choices[0].text for event in events) == said.message.content
    assert (last.choices, last.usage.total_tokens) == ([], whole.usage.total_tokens)
