"""The official client, sync and async, streamed and not."""

from __future__ import annotations

import asyncio

import openai
import pytest
from live import Live
from pictures import noise, part, photograph, text

QUESTION = [part(photograph("china")), text("What is this?")]


@pytest.fixture
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def messages(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


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


def test_errors_are_openais(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=messages("Hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=messages("Hi"), logprobs=True)
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == "logprobs"


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
