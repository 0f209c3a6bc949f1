"""Long data URIs: a body is the same request with and without them being taken out."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from mmplane.core.errors import RequestError
from mmplane.frontend.body import long_uris, schema
from mmplane.frontend.body.long_uris import LONG_BYTES, MARKS_MAX, take_out
from mmplane.frontend.body.parts import inline
from mmplane.frontend.body.schema import parse

FILE = bytes(range(256)) * (LONG_BYTES // 256)
URI = "data:image/png;base64," + base64.b64encode(FILE).decode()


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def body(*parts: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": [{"role": "user", "content": list(parts)}]} | fields).encode()


TEXT = {"type": "text", "text": 'a "quoted" \\ text'}
TAKEN = {
    "one": (body(image(URI), TEXT), 1),
    "two": (body(TEXT, image(URI), TEXT, image(URI.replace("AAEC", "AAED"))), 2),
    "a short one beside a long one": (body(image(URI[:1000]), image(URI)), 1),
    "of another modality": (
        body({"type": "video_url", "video_url": {"url": URI.replace("image/png", "video/mp4")}}),
        1,
    ),
    "in a text": (body({"type": "text", "text": URI}), 1),
    "in a quotation in a text": (body({"type": "text", "text": f'see "{URI}'}), 1),
    "in a hint, and as a picture": (body(image(URI), prompt_cache_options={"picture": URI}), 2),
    "with escapes": (body(image(URI)).replace(b"AAEC", rb"\u0041AEC"), 0),
    "with escaped slashes": (body(image(URI)).replace(b"image/png", rb"image\/png"), 0),
    "no URI": (body({"type": "text", "text": "x" * 2 * LONG_BYTES}), 0),
}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("what", TAKEN)
def test_the_request_is_the_same(what: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content, taken = TAKEN[what]
    assert len(take_out(kind(content))[1]) == (taken if kind is not memoryview else 0)
    request = parse(kind(content))
    monkeypatch.setattr(schema, "take_out", lambda whole: (whole, []))
    plain = parse(kind(content))
    assert [inline(part) for part in request.media] == [inline(part) for part in plain.media]
    assert msgspec.json.encode(request) == msgspec.json.encode(plain)


@pytest.mark.parametrize("wrong", [b"\n", b"\xff", b"\x00", "é".encode()])
def test_what_is_not_base64_is_refused(wrong: bytes) -> None:
    content = body(image(URI)).replace(b"AAEC", b"AA" + wrong)
    assert len(take_out(content)[1]) == 1
    (part,) = parse(content).media
    with pytest.raises(RequestError) as refusal:
        inline(part)
    assert refusal.value.status == 400


@pytest.mark.parametrize("broken", [b'"x"%b"y"', b'{"model":"tiny","messages":%b"}', b'"%b'])
def test_what_is_not_json_is_refused(broken: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        parse(broken % URI.encode())
    assert refusal.value.status == 400


def test_a_client_cannot_name_a_uri() -> None:
    """The name of one that was taken out is secret, so no text of a client is replaced by a picture."""
    (short, _) = take_out(body(image(URI)))
    name = json.loads(bytes(short))["messages"][0]["content"][0]["image_url"]["url"]
    assert name.encode() in long_uris._name(0)
    assert len(name) > 32


def test_the_search_is_bounded() -> None:
    many = [{"type": "text", "text": "x"}] * MARKS_MAX
    assert take_out(body(*many, image(URI)))[1] == []
