"""A grammar lets through what the request describes and nothing else; a wrong one is a 400 that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from mmplane.core.errors import RequestError
from mmplane.frontend.body import constraint
from mmplane.frontend.body.schema import parse
from mmplane.models.tiny import tiny_tokenizer

TOOLS: list[tuple[str, Any]] = [
    ("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
    ("time", None),
]
TOKENIZER = from_tokenizer(tiny_tokenizer(), n_vocab=320, eos_token=258)


def follows(grammar: str, text: str) -> bool:
    """Whether the whole text, byte by byte, is an answer of this grammar."""
    matcher = LLMatcher(TOKENIZER, constraint.check(grammar, "x"))
    tokens = tiny_tokenizer().encode(text, add_special_tokens=False)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def call(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (
            constraint.json_object(),
            ['{"a": [1, null]}', "{}"],
            ["[1]", '{"a"'],
        ),
        (constraint.json_schema({"type": "integer"}), ["12", "-3"], ["1.5", '"1"']),
        (constraint.regex("[a-c]{2}|z"), ["ab", "z"], ["abc", "za"]),
        (constraint.choice(["yes", 'no "way"']), ["yes", 'no "way"'], ["no", "yesno"]),
        (constraint.lark('start: "a" start? "b"'), ["ab", "aabb"], ["aab"]),
        (
            constraint.tool_call(TOOLS, several=False),
            [call("weather", {"city": "Bern"}), call("time", {})],
            [call("weather", {}), call("date", {}), f"{call('time', {})}\n{call('time', {})}", "Hello"],
        ),
        (
            constraint.tool_call(TOOLS, several=True),
            [f"{call('time', {})}\n{call('weather', {'city': 'Bern'})}"],
            [f"{call('time', {})}{call('time', {})}"],
        ),
        (constraint.tool_call(TOOLS[:1], several=False), [call("weather", {"city": "Bern"})], [call("time", {})]),
    ],
)
def test_what_follows(grammar: str, right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not follows(grammar, text)] == []
    assert [text for text in wrong if follows(grammar, text)] == []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: constraint.json_schema({"type": "strin"}), "Invalid type: strin"),
        (lambda: constraint.regex("(a"), "unclosed group"),
        (lambda: constraint.regex("(?=a)b"), "look-around"),
        (lambda: constraint.lark("start: %%"), "lexer error"),
        (lambda: constraint.json_schema({"const": "x" * constraint.GRAMMAR_BYTES_MAX}), "longer than"),
    ],
)
def test_what_is_wrong(make: Callable[[], str], why: str) -> None:
    with pytest.raises(RequestError) as error:
        constraint.check(make(), "response_format")
    assert error.value.status == 400
    assert error.value.param == "response_format"
    assert why in error.value.message
    assert len(error.value.message) <= constraint.MESSAGE_CHARACTERS_MAX


def test_a_schema_that_is_no_object_is_refused() -> None:
    with pytest.raises(RequestError, match="must be an object"):
        constraint.json_schema([1])


@pytest.mark.parametrize("field", ["schema", "value"])
def test_an_object_may_have_a_schema(field: str) -> None:
    """As llama.cpp and Hugging Face write it."""
    grammar = formed({"type": "json_object", field: {"type": "object", "required": ["a"]}})
    assert follows(grammar, '{"a": 1}')
    assert not follows(grammar, '{"b": 1}')
    assert follows(formed({"type": "json_object", field: None}), '{"b": 1}')


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object", "schema": {}, "value": {}},
        {"type": "json_object", "shape": {}},
        {"type": "text", "schema": {}},
        {"type": "json_schema", "json_schema": {"name": "x"}, "schema": {}},
    ],
)
def test_nothing_of_a_format_is_ignored(form: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as error:
        formed(form)
    assert (error.value.status, error.value.param) == (400, "response_format")


def formed(form: dict[str, Any]) -> str:
    """The grammar of a request with this `response_format`."""
    messages = [{"role": "user", "content": "Hi"}]
    return parse(json.dumps({"model": "tiny", "messages": messages, "response_format": form}).encode()).constraint()
