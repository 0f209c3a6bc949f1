"""A client's own name for its media: a repeat without the bytes, never another's content, and a clear miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from live import Live, serving
from pictures import noise, part, text

from clips import clip_part, encode, moving


def named(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": None, "uuid": name}


def ask(live: Live, *content: dict[str, Any]) -> httpx.Response:
    return live.chat([*content, text("What?")], mmplane={"trace": True})


def trace(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["mmplane"]["trace"]
    return found


def test_a_repeat_without_its_bytes(server: Live) -> None:
    first = trace(ask(server, part(noise(81)) | {"uuid": "a cat"}))
    again = trace(ask(server, named("a cat")))
    assert again["items"][0]["cache_hit"]
    assert again["token_ids"] == first["token_ids"]
    assert again["items"][0]["digests"] == first["items"][0]["digests"]
    clip = {"uuid": "a cat"} | clip_part(encode(moving(6)))
    first = trace(ask(server, clip))
    again = trace(ask(server, {"type": "video_url", "video_url": {"url": ""}, "uuid": "a cat"}))
    assert again["items"][0]["digests"] == first["items"][0]["digests"]


def test_bytes_that_are_sent_are_what_counts(server: Live) -> None:
    """The same name over other bytes: the bytes are served, and the name is theirs from then on."""
    one = trace(ask(server, part(noise(82)) | {"uuid": "pet"}))
    other = trace(ask(server, part(noise(83)) | {"uuid": "pet"}))
    assert other["items"][0]["digests"] != one["items"][0]["digests"]
    assert other["items"][0]["digests"] == trace(ask(server, part(noise(83))))["items"][0]["digests"]
    assert trace(ask(server, named("pet")))["items"][0]["digests"] == other["items"][0]["digests"]


def test_a_miss_says_to_send_it_again(server: Live) -> None:
    for content in (named("never sent"), {"type": "video_url", "uuid": "never sent"}):
        answer = ask(server, content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "media_not_held")
        assert "send it with its bytes" in answer.json()["error"]["message"]
    # Under this name a picture was sent, and no clip; and this clip has not been looked at so densely.
    trace(ask(server, part(noise(84)) | {"uuid": "one picture"}))
    assert ask(server, {"type": "video_url", "uuid": "one picture"}).status_code == 404
    trace(ask(server, clip_part(encode(moving(8))) | {"uuid": "a bar"}))
    fewer = {"trace": True, "video": {"frames": 2}}
    assert server.chat([{"type": "video_url", "uuid": "a bar"}], mmplane=fewer).status_code == 404


def test_a_name_does_not_outlive_its_item(tiny_folder: Path) -> None:
    """The name is known still, the features are gone: refused, and served again once the bytes have come."""
    with serving(tiny_folder, "--cache", "off", tp=1) as live:
        picture = part(noise(85)) | {"uuid": "gone"}
        first = trace(ask(live, picture))
        assert ask(live, named("gone")).status_code == 404
        assert trace(ask(live, picture))["token_ids"] == first["token_ids"]
