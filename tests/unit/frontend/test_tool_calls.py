"""Tool calls are found in text however it is cut into pieces; what is no call stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.frontend.chat.tool_calls import CALL_CHARACTERS_MAX, ToolCallStream

WEATHER = {"name": "weather", "arguments": {"city": 'Bern "}{" \\', "days": [1, {"of": None}]}}


def called(call: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def taken(text: str, cuts: list[int]) -> tuple[str, list[tuple[str | None, str]]]:
    """The text and the calls, when the text comes in pieces."""
    stream = ToolCallStream()
    said, calls = "", []
    ends = [*sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    for result in (*map(stream.push, pieces), stream.finish()):
        said += result.text
        for piece in result.calls:
            if piece.name is not None:
                assert piece.index == len(calls)
                calls.append((piece.name, ""))
            name, arguments = calls[piece.index]
            calls[piece.index] = (name, arguments + piece.arguments)
    assert stream.count == len(calls)
    return said, calls


CASES = {
    "text": ("2 < 3, <tool and </tool_call>", "2 < 3, <tool and </tool_call>", []),
    "white space": (" \n", " \n", []),
    "one call": (called(WEATHER), "", [("weather", json.dumps(WEATHER["arguments"]))]),
    "text and calls": (
        f"Let me see. \n{called(WEATHER)}\n{called({'name': 'time', 'arguments': {}})}\n",
        "Let me see.",
        [("weather", json.dumps(WEATHER["arguments"])), ("time", "{}")],
    ),
    "text after a call": (f"{called({'name': 'time', 'arguments': {}})}\n done ", "done", [("time", "{}")]),
    "llama's word": ('<tool_call>{"name": "a", "parameters": {"b": 1}}</tool_call>', "", [("a", '{"b": 1}')]),
    "another order": ('<tool_call>{"arguments": {"b": 1}, "name": "a"}</tool_call>', "", [("a", '{"b": 1}')]),
    "arguments as text": ('<tool_call>{"name": "a", "arguments": "{}"}</tool_call>', "", [("a", "{}")]),
    "no arguments": ('<tool_call>{"name": "a"}</tool_call>', "", [("a", "{}")]),
    "no call": ("a <tool_call>b</tool_call> c", "a <tool_call>b</tool_call> c", []),
    "a number for a name": ('<tool_call>{"name": 1}</tool_call>', '<tool_call>{"name": 1}</tool_call>', []),
    "cut in the arguments": ('<tool_call>{"name": "a", "arguments": {"b": "c', "", [("a", '{"b": "c')]),
    "cut in the name": ('so <tool_call>{"name": "a', 'so <tool_call>{"name": "a', []),
    "without its end": ('<tool_call>{"name": "a", "arguments": {}}', "", [("a", "{}")]),
}


@pytest.mark.parametrize("name", CASES)
@given(cuts=st.lists(st.integers(0, 500), max_size=20))
def test_however_it_is_cut(name: str, cuts: list[int]) -> None:
    text, said, calls = CASES[name]
    assert taken(text, cuts) == (said, calls)


def test_character_by_character() -> None:
    for text, said, calls in CASES.values():
        assert taken(text, list(range(len(text)))) == (said, calls)


def test_arguments_come_as_they_are_written() -> None:
    stream = ToolCallStream()
    assert stream.push('<tool_call>{"name": "a", "argum').calls == ()
    (first, second) = stream.push('ents": {"b": ').calls
    assert (first.name, first.arguments) == ("a", "")
    assert (second.name, second.arguments) == (None, '{"b": ')


def test_a_call_without_an_end_is_bounded() -> None:
    stream = ToolCallStream()
    text = "x" * CALL_CHARACTERS_MAX
    assert stream.push(f" <tool_call>{text}").text == ""
    assert stream.push("y").text == f" <tool_call>{text}y"
