"""The table of fields in docs/http.md is what these tests try: each value of it is parsed, or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from test_architecture import ROOT, section

from mmplane.core.errors import RequestError
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.parts import Part
from mmplane.frontend.body.schema import NEUTRAL_OF, ChatRequest, Fields, parse
from mmplane.frontend.body.unused import Hint, Unused

PAGE = ROOT / "docs" / "http.md"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA"}}
TOOL = {"type": "function", "function": {"name": "look_up"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
ROLES = {"tool_calls": "assistant", "tool_call_id": "tool"}
"""Of messages that have a field of their own."""
EMPTY = (None, "", [], {})
WORKS: dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]] = {
    "model": ("the served name", ("tiny",), (None, 5)),
    "messages": ("1 to 4,096 of them", ([{"role": "user", "content": "Hi"}],), (None, [], "Hi")),
    "stream": ("an answer in events", (True, False, None), ("yes",)),
    "stream_options": ("`include_usage` with `stream`", ({"include_usage": False}, {}, None), ({"x": 1},)),
    "n": ("1 to 16 samples", (1, 16, None), (0, 17)),
    "max_tokens": ("longest answer", (1, None), (0, -1)),
    "max_completion_tokens": ("the same", (1, None), (0,)),
    "temperature": ("0 to 2", (0, 2, None), (-0.1, 2.1)),
    "top_p": ("0 to 1; 0 takes the likeliest token", (0, 1, None), (-0.1, 1.1)),
    "seed": ("64 bits", (-7, None), (2**63,)),
    "stop": ("up to 4 texts", ("a", ["a", "b"], [], None), ([1],)),
    "user": ("no effect", ("Ann", "", None), (5,)),
    "metadata": ("no effect", ({"chat": "1"}, {}, None), ({"chat": 1},)),
    "mmplane": ("our own options, below", ({"trace": True}, {}, None), ({"x": 1},)),
    "prompt_cache_key": ("no effect", ("chat 1", "", None), (5,)),
    "prompt_cache_retention": ("no effect", ("24h", "", None), (5,)),
    "safety_identifier": ("no effect", ("Ann", "", None), (5,)),
    "service_tier": ("no effect", ("auto", "flex", None), ("x",)),
    "min_tokens": ("no end before", (0, 5, None), (-1,)),
    "top_k": ("the likeliest tokens alone; -1 and 0: all", (-1, 0, 5, None), (-2,)),
    "min_p": ("tokens this likely, relative to the likeliest", (0, 1, None), (1.1,)),
    "repetition_penalty": ("of tokens of prompt and answer", (1, 0.5, None), (0,)),
    "presence_penalty": ("of the answer's tokens", (-2, 2, None), (2.1, "")),
    "frequency_penalty": ("of the answer's tokens, for each", (-2, 2, None), (2.1, "")),
    "logit_bias": ("up to 512 tokens", ({"5": -100}, {}, None), ({"x": 1}, {"5": 101})),
    "stop_token_ids": ("up to 64 tokens that end the answer", ([5], [], None), ([-1],)),
    "ignore_eos": ("the model's end tokens do not end the answer", (True, False, None), (1,)),
    "logprobs": ("log probabilities of the tokens", (True, False, None), (5,)),
    "top_logprobs": ("and of the likeliest ones, up to 20", (0, 20, None), (21,)),
    "response_format": ("the answer's form", ({"type": "json_object"}, {"type": "text"}, None), ()),
    "structured_outputs": ("the same, as vLLM has it", ({"regex": "a+"}, None), ()),
    "guided_json": ("the same: a schema", ({"type": "object"}, None), ()),
    "guided_regex": ("the same", ("a+", None), (5,)),
    "guided_choice": ("the same: one of these", (["yes", "no"], None), ([],)),
    "guided_grammar": ("the same", ('start: "a"', None), (5,)),
    "tools": ("functions that the model may call", ([TOOL], [], None), ([{"type": "x"}],)),
    "tool_choice": ("which must be called", ("auto", "none", "", None), ("x",)),
    "parallel_tool_calls": ("several calls at once", (True, False, None), ("x",)),
    "chat_template_kwargs": ("passed to the chat template", ({"enable_thinking": False}, {}, None), ()),
    "add_generation_prompt": ("passed to the chat template", (True, False, None), ("x",)),
    "continue_final_message": ("passed to the chat template", (True, False, None), ("x",)),
    "messages[].content": ("a text, or parts", ("Hi", "", None, [PICTURE, SOUND]), (5,)),
    "messages[].name": ("as the chat template has it", ("Ann", "", None), (5,)),
    "messages[].tool_calls": ("of the assistant", ([CALL], [], "", {}, None), ([{"id": 5}],)),
    "messages[].tool_call_id": ("of a tool", ("call_1", "", None), (5,)),
    "image_url.detail": ("`low` shrinks the picture", ("auto", "low", "high", "original", "", None), ("x",)),
    "input_audio.format": ("no effect: types are detected", ("wav", "mp3", "flac", "", None), ("midi",)),
}
"""Fields with a meaning: what they do, values that are accepted, and some that are refused."""
OF_TEXTS: dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]] = {
    "prompt": (
        "texts, or tokens: 1 to 16 of them",
        ("Hi", ["Hi", "Ho"], [72, 105], [[72], [105]]),
        (None, [], ["Hi", 5]),
    ),
    "max_tokens": ("longest answer; 16 if it is not given", (1, None), (0,)),
    "echo": ("the prompt before the answer; not with `logprobs`", (True, False, None), ("x",)),
    "logprobs": ("log probabilities of the tokens and of so many likely ones, up to 20", (0, 20, None), (21, True)),
}
"""Those of a text completion that a chat has not, or has otherwise."""


def rows() -> dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """Those, and what the schema says of the others."""
    records = {"": ChatRequest, "messages[].": Fields, "part.": Part}
    found = dict(WORKS)
    for path, record in records.items():
        for field in msgspec.structs.fields(record):
            if path + field.name in WORKS:
                continue
            if field.type == Unused and not (path == "part." and field.name not in ("annotations", "file", "refusal")):
                neutral = () if path else NEUTRAL_OF["chat"].get(field.name, ())
                found[path + field.name] = ("not built", (*EMPTY, *neutral), ({"x": 1},))
            elif field.type == Hint:
                found[path + field.name] = ("no effect", (*EMPTY, {"x": "y"}), ())
    return found


def rows_of_texts() -> dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """The same of text completions: what a chat has not, or has otherwise."""
    of_chats, found = rows(), dict(OF_TEXTS)
    for field in msgspec.structs.fields(CompletionRequest):
        if field.type == Unused:
            row = ("not built", (*EMPTY, *NEUTRAL_OF["text"].get(field.name, ())), ({"x": 1},))
            if of_chats.get(field.name) != row:
                found[field.name] = row
    return found


def body(name: str, value: Any) -> bytes:
    """A request in which this field has this value."""
    message: dict[str, Any] = {"role": "user", "content": "Hi"}
    fields: dict[str, Any] = {}
    path, _, field = name.rpartition(".")
    if path == "messages[]":
        message |= {"role": ROLES.get(field, "user"), field: value}
    elif path == "part":
        message["content"] = [{"type": "text", "text": "Hi", field: value}]
    elif path:
        part = PICTURE if path == "image_url" else SOUND
        message["content"] = [part | {path: part[path] | {field: value}}]  # type: ignore[dict-item, operator]
    else:
        fields = {field: value}
    return json.dumps({"model": "tiny", "messages": [message]} | fields).encode()


def take(content: bytes) -> None:
    """Parse it, and what is decoded later."""
    assert parse(content).tool_list is not None


@pytest.mark.parametrize("name", rows())
def test_what_the_table_says_is_so(name: str) -> None:
    _, accepted, refused = rows()[name]
    for value in accepted:
        take(body(name, value))
    for value in refused:
        with pytest.raises(RequestError) as error:
            take(body(name, value))
        assert error.value.status == 400


@pytest.mark.parametrize("name", rows_of_texts())
def test_what_the_table_of_texts_says_is_so(name: str) -> None:
    _, accepted, refused = rows_of_texts()[name]
    for value in accepted:
        parse(json.dumps({"model": "tiny", "prompt": "Hi"} | {name: value}).encode(), kind="text")
    for value in refused:
        with pytest.raises(RequestError) as error:
            parse(json.dumps({"model": "tiny", "prompt": "Hi"} | {name: value}).encode(), kind="text")
        assert error.value.status == 400


def test_every_field_of_a_text_completion_is_in_a_table() -> None:
    fields = {field.name for field in msgspec.structs.fields(CompletionRequest)}
    assert fields <= set(rows()) | set(rows_of_texts())


def test_every_field_of_a_request_is_in_the_table() -> None:
    assert {field.name for field in msgspec.structs.fields(ChatRequest)} <= set(rows())


def test_the_page_has_the_tables() -> None:
    for name, found in (("fields", rows()), ("text fields", rows_of_texts())):
        table = ["| field | what it does | accepted | refused, for example |", "|---|---|---|---|"]
        for field, (what, accepted, refused) in found.items():
            table.append(f"| `{field}` | {what} | {_values(accepted)} | {_values(refused)} |")
        assert section(PAGE, name) == "\n".join(table)


def _values(values: tuple[Any, ...]) -> str:
    shown = ["parts" if isinstance(value, list) and PICTURE in value else f"`{json.dumps(value)}`" for value in values]
    return ", ".join(shown)
