"""The table of fields in docs/http.md is what these tests try: each value of it is parsed, or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from test_architecture import ROOT, section

from mmplane.core.errors import RequestError
from mmplane.frontend.request.parts import Part
from mmplane.frontend.request.schema import NEUTRAL, ChatRequest, Fields, parse
from mmplane.frontend.request.unused import Hint, Unused

PAGE = ROOT / "docs" / "http.md"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA"}}
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
    "messages[].content": ("a text, or parts", ("Hi", "", None, [PICTURE, SOUND]), (5,)),
    "messages[].name": ("as the chat template has it", ("Ann", "", None), (5,)),
    "image_url.detail": ("`low` shrinks the picture", ("auto", "low", "high", "original", "", None), ("x",)),
    "input_audio.format": ("no effect: types are detected", ("wav", "mp3", "flac", "", None), ("midi",)),
}
"""Fields with a meaning: what they do, values that are accepted, and some that are refused."""


def rows() -> dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """Those, and what the schema says of the others."""
    records = {"": ChatRequest, "messages[].": Fields, "part.": Part}
    found = dict(WORKS)
    for path, record in records.items():
        for field in msgspec.structs.fields(record):
            if field.type == Unused and not (path == "part." and field.name not in ("annotations", "file", "refusal")):
                neutral = () if path else NEUTRAL.get(field.name, ())
                found[path + field.name] = ("not built", (*EMPTY, *neutral), ({"x": 1},))
            elif field.type == Hint:
                found[path + field.name] = ("no effect", (*EMPTY, {"x": "y"}), ())
    return found


def body(name: str, value: Any) -> bytes:
    """A request in which this field has this value."""
    message: dict[str, Any] = {"role": "user", "content": "Hi"}
    fields: dict[str, Any] = {}
    path, _, field = name.rpartition(".")
    if path == "messages[]":
        message |= {field: value}
    elif path == "part":
        message["content"] = [{"type": "text", "text": "Hi", field: value}]
    elif path:
        part = PICTURE if path == "image_url" else SOUND
        message["content"] = [part | {path: part[path] | {field: value}}]  # type: ignore[dict-item, operator]
    else:
        fields = {field: value}
    return json.dumps({"model": "tiny", "messages": [message]} | fields).encode()


@pytest.mark.parametrize("name", rows())
def test_what_the_table_says_is_so(name: str) -> None:
    _, accepted, refused = rows()[name]
    for value in accepted:
        parse(body(name, value))
    for value in refused:
        with pytest.raises(RequestError) as error:
            parse(body(name, value))
        assert error.value.status == 400


def test_every_field_of_a_request_is_in_the_table() -> None:
    assert {field.name for field in msgspec.structs.fields(ChatRequest)} <= set(rows())


def test_the_page_has_the_table() -> None:
    table = ["| field | what it does | accepted | refused, for example |", "|---|---|---|---|"]
    for name, (what, accepted, refused) in rows().items():
        table.append(f"| `{name}` | {what} | {_values(accepted)} | {_values(refused)} |")
    assert section(PAGE, "fields") == "\n".join(table)


def _values(values: tuple[Any, ...]) -> str:
    shown = ["parts" if isinstance(value, list) and PICTURE in value else f"`{json.dumps(value)}`" for value in values]
    return ", ".join(shown)
