"""Open WebUI's requests, recorded from its page by `make record-openwebui` and sent again.

They are a chat about a picture, and three requests of its own: questions to follow, a title for the chat, and tags.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from live import Live

from mmplane.demo import LOOKS, draw

RECORDED, *REQUESTS = map(json.loads, (Path(__file__).parent / "recorded" / "openwebui.jsonl").read_text().splitlines())
NUMBER = "4821"
CHATS = [each["body"] for each in REQUESTS if each["path"] == "/v1/chat/completions"]


def filled(body: dict[str, Any]) -> Any:
    """The body with a picture where one was."""
    picture = "data:image/png;base64," + base64.b64encode(draw(NUMBER, *LOOKS[0])).decode()
    return json.loads(json.dumps(body).replace('"PICTURE"', json.dumps(picture)))


def test_it_is_a_chat_about_a_picture_and_more() -> None:
    assert RECORDED["recorded"].startswith("Open WebUI ")
    assert [each["path"] for each in REQUESTS if each["method"] == "GET"] == ["/v1/models"]
    assert ["PICTURE" in json.dumps(body) for body in CHATS].count(True) >= 1
    assert len(CHATS) > 1


@pytest.mark.parametrize("recorded", REQUESTS, ids=lambda each: each["path"])
def test_every_request_is_answered(server: Live, recorded: dict[str, Any]) -> None:
    body = filled(recorded["body"]) if recorded["body"] else None
    answer = server.http.request(recorded["method"], recorded["path"], json=body)
    assert answer.status_code == recorded["status"] == 200, answer.text


def test_the_number_is_read(server: Live) -> None:
    """Streamed, as its page wants it."""
    (asked,) = [body for body in CHATS if body["stream"]]
    answer = server.http.post("/v1/chat/completions", json=filled(asked)).raise_for_status()
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    said = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    assert "".join(said) == NUMBER
