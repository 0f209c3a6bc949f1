"""Unknown fields that are null count as absent, wherever they are; nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies

from mmplane.core.errors import RequestError
from mmplane.frontend.body import nulls
from mmplane.frontend.body.schema import ChatRequest, parse

CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"x": null}'}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"x": {"default": None}}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "reading", "schema": {"const": None}}}
BODY: dict[str, Any] = {
    "model": "tiny",
    "stream": True,
    "stream_options": {"include_usage": True},
    "mmplane": {"trace": True},
    "tools": [TOOL],
    "response_format": SCHEMA,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": 'Is it, "surprise": null?'}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"surprise": null}'},
    ],
}
RECORDS: tuple[tuple[str | int, ...], ...] = (
    (),
    ("stream_options",),
    ("mmplane",),
    ("messages", 0),
    ("messages", 0, "content", 0),
    ("messages", 1, "content", 0),
    ("messages", 1, "content", 0, "image_url"),
    ("messages", 2),
    ("messages", 2, "tool_calls", 0),
    ("messages", 2, "tool_calls", 0, "function"),
    ("messages", 3),
    ("tools", 0),
    ("tools", 0, "function"),
    ("response_format", "json_schema"),
)
"""Paths of objects that refuse unknown fields."""


def body(path: tuple[str | int, ...], more: dict[str, Any], *, at: int = 0) -> bytes:
    """`BODY` with more fields in one object, before its field number `at`."""
    whole = json.loads(json.dumps(BODY))
    record = whole
    for step in path:
        record = record[step]
    fields = list(record.items())
    record.clear()
    record.update([*fields[:at], *more.items(), *fields[at:]])
    return json.dumps(whole).encode()


def taken(content: bytes) -> list[Any]:
    """The request, and what is decoded later."""
    request = parse(content)
    form = msgspec.json.decode(request.response_format)
    return [msgspec.structs.replace(request, tools=None, response_format=None), request.tool_list, form]


@pytest.mark.parametrize("path", RECORDS, ids=str)
@pytest.mark.parametrize("at", [0, 1, 9])
def test_an_unknown_null_is_no_field(path: tuple[str | int, ...], at: int) -> None:
    content = body(path, {"surprise": None, "top_a": None}, at=at)
    if path[:1] == ("response_format",):
        assert parse(content).grammar([], None, several=False) == parse(body((), {})).grammar([], None, several=False)
    else:
        assert taken(content) == taken(body((), {}))


@pytest.mark.parametrize("path", RECORDS[:-1], ids=str)
def test_any_other_value_is_refused(path: tuple[str | int, ...]) -> None:
    for value in (False, 0, "", [], {}, "null", [None]):
        with pytest.raises(RequestError) as refused:
            taken(body(path, {"surprise": value, "other": None}))
        assert refused.value.code in ("unsupported_parameter", "invalid_value")
        assert "surprise" in refused.value.message


def test_texts_stay() -> None:
    request = parse(body((), {"surprise": None}))
    assert request.messages[0].content[0].text == 'Is it, "surprise": null?'  # type: ignore[union-attr]
    assert request.messages[3].content == '{"surprise": null}'
    assert request.messages[2].tool_calls[0].function.arguments == '{"x": null}'  # type: ignore[union-attr]


@given(
    unknown=strategies.lists(strategies.sampled_from(["a", "b-c", "top_a", "d"]), max_size=4, unique=True),
    places=strategies.lists(strategies.integers(0, 3), min_size=4, max_size=4),
    space=strategies.sampled_from(["", " ", "\n\t "]),
)
def test_wherever_they_stand(unknown: list[str], places: list[int], space: str) -> None:
    fields = ['"model": "tiny"', '"messages": [{"role": "user", "content": "{, "}]', '"n": 2']
    for name, place in zip(unknown, places, strict=False):
        fields.insert(place, f'{space}"{name}"{space}:{space}null')
    request = parse(f"{{{f'{space},{space}'.join(fields)}}}".encode())
    assert (request.model, request.n, request.messages[0].content) == ("tiny", 2, "{, ")


def test_a_known_field_keeps_its_null() -> None:
    """What is null and known beside an unknown null, such as the content of a user's message, which must be there."""
    request = parse(b'{"x": null, "model": "tiny", "stop": null, "messages": [{"role": "user", "content": null}]}')
    assert request.messages[0].content == ""


def test_a_picture_lies_where_it_was() -> None:
    """A body that may be written is not copied; one that may not be is not written."""
    content = body((), {"surprise": None})
    for kept in (bytearray(content), memoryview(bytearray(content))):
        (part,) = parse(kept).media
        assert bytes(part.source or b"") == b'"data:image/png;base64,AAAA"'
        assert b"surprise" not in bytes(kept)[:20]
        assert len(kept) == len(content)
    parse(content)
    assert b"surprise" in content[:20]


def many(names: int) -> bytes:
    return body((), {f"x{number}": None for number in range(names)})


def test_names_are_bounded() -> None:
    assert parse(many(nulls.NAMES_MAX)).model == "tiny"
    with pytest.raises(RequestError) as refused:
        parse(many(nulls.NAMES_MAX + 1))
    assert refused.value.code == "unsupported_parameter"


def test_a_long_body_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nulls, "READ_BYTES_MAX", 3 * len(many(3)))
    assert parse(many(3)).model == "tiny"
    with pytest.raises(RequestError):
        parse(many(4))


def test_text_completions_too() -> None:
    assert parse(b'{"model": "tiny", "prompt": "Hi", "images": null}', kind="text").model == "tiny"


def test_what_is_no_json_is_no_request() -> None:
    for content in (b'{"x": null, "model": ', b'{"x": nullx, "model": "tiny"}', b'{"x": null,, "model": "tiny"}'):
        with pytest.raises(RequestError) as refused:
            parse(content)
        assert refused.value.code == "invalid_json"


def test_it_is_the_decoders_value() -> None:
    decoder = msgspec.json.Decoder(ChatRequest)
    assert nulls.decode(decoder, body((), {})) == decoder.decode(body((), {}))
