"""Answers in a form: grammars, tool calls, limits on tokens, log probabilities. By the official client."""

from __future__ import annotations

import json
import re
from typing import Any

import openai
import pytest
from live import Live
from pictures import noise, part, text

SCHEMA = {
    "type": "object",
    "properties": {"digits": {"type": "string", "pattern": "^[0-9]{1,8}$"}, "sure": {"type": "boolean"}},
    "required": ["digits", "sure"],
    "additionalProperties": False,
}
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "What a number stands for",
        "parameters": {
            "type": "object",
            "properties": {"digits": {"type": "string", "maxLength": 6}},
            "required": ["digits"],
            "additionalProperties": False,
        },
    },
}
FORGET = {"type": "function", "function": {"name": "forget", "parameters": {"type": "object", "maxProperties": 0}}}
HOSTILE = f"a({'|'.join(f'(.*[ab].{{{count}}}c)*d' for count in range(20, 120))})*x"
"""Any text may follow the first letter, and each of a hundred repetitions may begin at any place of it."""
QUESTION = [part(noise(77)), text("What is this?")]


@pytest.fixture
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, content: Any = QUESTION, **fields: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    defaults = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 100, "seed": 1}
    return client.chat.completions.create(**defaults | fields)


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    answer = ask(client, n=3, temperature=1, response_format=schema_format(SCHEMA))
    read = [json.loads(choice.message.content) for choice in answer.choices]
    assert [sorted(each) for each in read] == [["digits", "sure"]] * 3
    assert all(re.fullmatch("[0-9]{1,8}", each["digits"]) for each in read)
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert len({json.dumps(each) for each in read}) > 1, "the samples go their own ways"


@pytest.mark.parametrize(
    ("extra", "pattern"),
    [
        ({"guided_regex": "[a-c]{3}-[0-9]"}, "[a-c]{3}-[0-9]"),
        ({"guided_choice": ["yes", "perhaps"]}, "yes|perhaps"),
        ({"guided_grammar": 'start: "<" start? ">"'}, "<+>+"),
        ({"guided_json": {"enum": [12, "x"]}}, '12|"x"'),
        ({"structured_outputs": {"regex": "no+"}}, "no+"),
    ],
)
def test_forms_of_vllm(client: openai.OpenAI, extra: dict[str, Any], pattern: str) -> None:
    answer = ask(client, extra_body=extra, temperature=1)
    assert re.fullmatch(pattern, answer.choices[0].message.content)


def test_a_form_that_nothing_can_have(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="unclosed group") as refused:
        ask(client, extra_body={"guided_regex": "(a"})
    assert refused.value.param == "guided_regex"


def test_a_grammar_that_takes_too_much_work_for_a_token(client: openai.OpenAI) -> None:
    """Its request ends with an error for whoever wrote it, whole or as a stream. The next request is answered."""
    hostile = {"logit_bias": {ord("a") - ord("!"): 100}, "max_tokens": 1000, "extra_body": {"guided_regex": HOSTILE}}
    with pytest.raises(openai.BadRequestError, match="takes too much work"):
        ask(client, **hostile)
    with pytest.raises(openai.APIError, match="takes too much work"):
        list(ask(client, stream=True, **hostile))
    assert re.fullmatch("[ab]{3}", ask(client, extra_body={"guided_regex": "[ab]{3}"}).choices[0].message.content)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_and_its_answer(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    """A call, the tool's answer with a picture, and the conversation goes on."""
    fields = {"tools": [LOOK_UP, FORGET], "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1}
    if stream:
        with client.chat.completions.stream(
            model="tiny",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=200,
            seed=2,
            stream_options={"include_usage": True},
            **fields,
        ) as events:
            for _ in events:
                pass
            answer = events.get_final_completion()
    else:
        answer = ask(client, **fields, max_tokens=200)
    (whole,) = answer.choices
    (call,) = whole.message.tool_calls
    assert not whole.message.content
    assert whole.finish_reason == ("tool_calls" if choice == "required" else "stop")
    names = {"look_up", "forget"} if choice == "required" else {"look_up"}
    assert call.function.name in names
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == ({"digits"} if call.function.name == "look_up" else set())
    given = {"role": "tool", "tool_call_id": call.id, "content": [text("Seen here"), part(noise(78))]}
    messages = [{"role": "user", "content": QUESTION}, whole.message, given]
    after = ask(client, messages=messages, tools=[LOOK_UP], max_tokens=4)
    assert after.usage.prompt_tokens_details.image_tokens == 2 * answer.usage.prompt_tokens_details.image_tokens


def test_tools_are_in_the_prompt_and_none_need_be_called(client: openai.OpenAI) -> None:
    without, told = ask(client, max_tokens=4), ask(client, max_tokens=4, tools=[LOOK_UP], tool_choice="auto")
    assert told.usage.prompt_tokens > without.usage.prompt_tokens + len(json.dumps(LOOK_UP))
    assert told.choices[0].message.tool_calls is None


def test_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=5, extra_body={"ignore_eos": True})
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens == 5
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.logprob == token.top_logprobs[0].logprob <= 0 for token in tokens), "greedy takes the likeliest"
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    chunks = list(
        ask(client, logprobs=True, top_logprobs=3, max_tokens=5, extra_body={"ignore_eos": True}, stream=True)
    )
    streamed = [chunk.choices[0].logprobs.content for chunk in chunks if chunk.choices[0].logprobs]
    assert [token.token for some in streamed for token in some] == [token.token for token in tokens]


def test_what_may_be_drawn(client: openai.OpenAI) -> None:
    x, y = ord("x") - ord("!"), ord("y") - ord("!")  # printable characters come first in the alphabet
    plain = ask(client, max_tokens=6, extra_body={"ignore_eos": True})
    assert ask(client, max_tokens=3, logit_bias={x: 100}).choices[0].message.content == "xxx"
    either = {"logit_bias": {x: 90, y: 90}, "max_tokens": 60, "frequency_penalty": 2, "presence_penalty": 2}
    content = ask(client, **either).choices[0].message.content
    assert set(content) == {"x", "y"}, "a token that has come loses weight"
    stopped = ask(client, max_tokens=6, logit_bias={x: 100}, extra_body={"stop_token_ids": [x]})
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("", "stop")
    later = ask(client, max_tokens=6, logit_bias={x: 100}, extra_body={"stop_token_ids": [x], "min_tokens": 3})
    assert later.usage.completion_tokens == 4
    likeliest = ask(client, max_tokens=6, temperature=2, extra_body={"ignore_eos": True, "top_k": 1})
    assert likeliest.choices[0].message.content == plain.choices[0].message.content
    surest = ask(client, max_tokens=6, temperature=2, extra_body={"ignore_eos": True, "min_p": 1})
    assert surest.choices[0].message.content == plain.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="tokens, from 0 on"):
        ask(client, logit_bias={320: 1})
