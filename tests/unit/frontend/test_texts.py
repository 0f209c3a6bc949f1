"""A text completion from body to answer: prompts without a template, several of them, echo and log probabilities."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from frontend_client import IMAGE_TOKEN, Call, Service, serving
from transformers import PreTrainedTokenizerFast

from frontend_loop import in_loop, settle
from mmplane.core.errors import RequestError, unavailable
from mmplane.core.plan import Abort, Submit
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.schema import parse
from mmplane.frontend.chat.text import TextStream
from mmplane.frontend.request.reading import ParsedBody
from mmplane.frontend.request.renderer import Renderer


def asked(**fields: Any) -> CompletionRequest:
    request = parse(json.dumps({"model": "tiny"} | fields).encode(), kind="text")
    assert isinstance(request, CompletionRequest)
    return request


def tokens_of(submit: Submit) -> list[int]:
    return np.frombuffer(submit.prompt, np.int32).tolist()


@in_loop
async def test_a_prompt_is_taken_as_it_is(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call = service.complete(prompt="<|im_start|>Hi", seed=5)
        submit = await service.admitted()
        service.say(submit, " there")
        await call.done()
        assert tokens_of(submit) == tokenizer.encode("<|im_start|>Hi")
        assert submit.sampling.tokens_max == 16, "as OpenAI has it"
        assert call.answer["id"].startswith("cmpl-")
        assert call.answer["object"] == "text_completion"
        assert call.answer["choices"] == [{"index": 0, "text": " there", "logprobs": None, "finish_reason": "length"}]
        assert (call.answer["usage"]["prompt_tokens"], call.answer["usage"]["completion_tokens"]) == (3, 6)


async def several(service: Service, **fields: Any) -> tuple[Call, list[Submit]]:
    """Two prompts of tokens, two samples of each, both under way."""
    call = service.complete(prompt=[[65], [66, 67]], n=2, **fields)
    submits = [await service.admitted() for _ in range(2)]
    assert list(map(tokens_of, submits)) == [[65], [66, 67]]
    return call, submits


@in_loop
async def test_several_prompts_are_under_way_together(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call, submits = await several(service, echo=True)
        for submit, says in zip(reversed(submits), ("cd", "ab"), strict=True):
            for sample in (1, 0):
                service.say(submit, says[sample], sample=sample)
        await call.done()
        texts = [(choice["index"], choice["text"]) for choice in call.answer["choices"]]
        before, second = (tokenizer.decode(tokens) for tokens in ([65], [66, 67]))
        assert texts == [(0, before + "a"), (1, before + "b"), (2, second + "c"), (3, second + "d")]
        assert call.answer["usage"]["prompt_tokens"] == 3
        assert call.answer["usage"]["completion_tokens"] == 4
        assert service.counters.now == 0


@in_loop
async def test_one_that_fails_ends_the_others(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        call, submits = await several(service)
        service.leader.fail(submits[0], unavailable("the ranks are gone"))
        assert (await call.done()).status == 503
        assert await service.leader.hear_all() == [Abort(submits[1].request_id)]


@in_loop
async def test_no_more_prompts_than_seats(tokenizer: PreTrainedTokenizerFast) -> None:
    """The endpoint's own seat is for the first prompt; there are three for others."""
    async with serving(tokenizer) as service:
        call = service.complete(prompt=["x"] * 5)
        assert (await call.done()).error["code"] == "too_many_requests"
        assert call.status == 429
        heard = await service.leader.hear_all()
        assert [type(record) for record in heard] == [Submit] * 4 + [Abort] * 4
        for submit in heard[:4]:
            service.leader.fail(submit, unavailable("the request was aborted"))
        await settle()


@in_loop
async def test_a_stream(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        options = {"include_usage": True, "continuous_usage_stats": True}
        call = service.complete(prompt="x", stream=True, stream_options=options, echo=True)
        service.say(await service.admitted(), "A €")
        *events, usage, end = (await call.done()).events
        assert end == "[DONE]"
        assert "".join(event["choices"][0]["text"] for event in events) == "xA €"
        assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["length"]
        assert [event["usage"]["completion_tokens"] for event in events] == [0, 1, 2, 5]
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
        assert {event["object"] for event in [*events, usage]} == {"text_completion"}


@in_loop
async def test_a_long_prompt_goes_through_the_parser(tokenizer: PreTrainedTokenizerFast) -> None:
    async with serving(tokenizer) as service:
        parser = await service.rig.parser()
        call = service.complete(prompt=[[65] * 2000, [66]], max_tokens=1)
        await parser.parse_one()
        submits = [await service.admitted() for _ in range(2)]
        assert list(map(tokens_of, submits)) == [[65] * 2000, [66]]
        for submit in submits:
            service.say(submit, "x")
        assert (await call.done()).status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x", ""]}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["x", 5]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": ["x"] * 17}, "prompt"),
        ({"prompt": ["x"] * 9, "n": 2}, "prompt"),
        ({"prompt": [65] * 1200}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "echo": True, "logprobs": 0}, "echo"),
        ({"prompt": [IMAGE_TOKEN]}, None),
    ],
)
@in_loop
async def test_what_is_refused(
    fields: dict[str, Any], param: str | None, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tokenizer) as service:
        monkeypatch.setattr(service.rig.renderer, "characters_max", 1000)
        call = await service.complete(**fields).done()
        assert (call.status, call.error["param"]) == (400, param)
        assert await service.leader.hear_all() == []


def test_prompts_are_told_apart_in_one_array() -> None:
    ids = np.array([1, 2, -1, 3], np.int32)
    parts = ParsedBody(asked(prompt="x"), ids).prompts()
    assert [part.ids.tolist() for part in parts] == [[1, 2], [3]]


def test_a_text_goes_on_where_its_prompt_ends() -> None:
    """A decoder that writes a space before each word but the first, and bytes of which two are a character."""
    words = {1: " one", 2: " two", 3: " three"}

    def decode(tokens: list[int]) -> str:
        return "".join(words[token] for token in tokens).removeprefix(" ")

    alone, after = TextStream(decode), TextStream(decode, before=[1, 2])
    assert [alone.push(3), after.push(3)] == ["three", " three"]


def test_echo_needs_the_prompt_and_nothing_else_does() -> None:
    for echo, kept in ((False, ""), (True, "x")):
        request = asked(prompt="x", echo=echo)
        request.let_go()
        assert request.prompt == kept


def test_characters_of_control_tokens_are_no_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    renderer = Renderer(tokenizer, "", 4)
    assert len(renderer.render(asked(prompt="<|im_start|>xyz"))) == 4
    with pytest.raises(RequestError, match="5 characters"):
        renderer.render(asked(prompt="<|im_start|>wxyz"))
