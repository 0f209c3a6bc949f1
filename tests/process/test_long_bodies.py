"""Long bodies and long prompts go through the parser: same answers, same keys; its death costs one request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live import Live, serving
from pictures import noise, part, text

from mmplane.frontend.request.bodies import INLINE_BYTES_MAX
from mmplane.models.tiny import CHAT_TEMPLATE
from polling import until

LARGE = noise(77, 800, 700)
ENDLESS = """\
{% if '<never>' in messages[0]['content'] %}{% for i in range(99999) %}{% for j in range(99999) %}\
{% endfor %}{% endfor %}{% endif %}"""
BODY_BYTES = 59 * 2**20
TEXT_PART = b'{"type":"text","text":""},'
PICTURE_PART = b'{"type":"image_url","image_url":{"url":"data:,"}},'


@pytest.fixture(scope="module")
def live(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose chat template does not end for some texts."""
    folder = tmp_path_factory.mktemp("models") / "endless"
    shutil.copytree(tiny_folder, folder)
    (folder / "chat_template.jinja").write_text(ENDLESS + CHAT_TEMPLATE)
    with serving(folder, "--arena-bytes", str(2**30), tp=1) as live:  # three of the longest bodies fit its region
        yield live


def ask(live: Live, *pad: str) -> dict[str, object]:
    answer = live.chat([part(LARGE), *map(text, pad), text("?")], max_tokens=4, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["mmplane"]["trace"]["items"]
    return dict(item)


def test_a_long_body(live: Live) -> None:
    assert len(LARGE) > INLINE_BYTES_MAX
    before = live.statistics()
    first, again = ask(live), ask(live)
    assert (first["cache_hit"], again["cache_hit"]) == (False, True)
    assert first["content_key"] == again["content_key"]
    assert live.statistics()["bodies"]["parsed"] == before["bodies"]["parsed"] + 2
    for bad, status in ((b"{" * 2_000_000, 400), (b'{"model": "' + b"x" * 2_000_000 + b'"}', 400)):
        assert live.http.post("/v1/chat/completions", content=bad).status_code == status
    parser = live.processes()["parser"]
    parser.kill()
    until(lambda: live.pids().get("parser", parser.pid) != parser.pid, 60, "a new parser")
    assert live.chat([part(LARGE)], max_tokens=1).status_code == 200, "it waits for the new parser"
    live.settle()
    after = live.statistics()
    assert after["arena"]["leases"] == 0
    assert after["budget"]["reserved_bytes"] == 0
    assert after["arena"]["regions"][0]["free_bytes"] == after["arena"]["regions"][0]["length_bytes"]
    assert b"mmplane_loop_lag_seconds_bucket" in live.http.get("/metrics").content


def test_a_long_prompt_is_rendered_as_a_short_one(live: Live) -> None:
    """The parser and the front end give the same tokens: a long and a short way to the same prompt."""
    before = live.statistics()["bodies"]["parsed"]
    answers = [live.chat([text("Hello")], max_tokens=4, metadata={"x": pad}) for pad in ("", '"' * 600)]
    assert [answer.status_code for answer in answers] == [200, 200]
    usages = [answer.json()["usage"]["prompt_tokens"] for answer in answers]
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert (usages[0], texts[0]) == (usages[1], texts[1])
    assert live.statistics()["bodies"]["parsed"] == before + 1


def test_hostile_bodies(live: Live) -> None:
    """Texts that cost seconds to tokenise, and bodies of millions of values: refused, and no process is replaced."""
    pids, epoch = live.pids(), live.statistics()["epoch"]
    start = b'{"model":"tiny","messages":[{"role":"user","content":'

    def of(item: bytes) -> bytes:
        return (item * (BODY_BYTES // len(item)))[:-1]

    bodies = [
        *[start + b'"' + b"word " * 200_000 + b'"}]}'] * 2,
        start + b"[" + TEXT_PART * 30_000 + TEXT_PART[:-1] + b"]}]}",
        b'{"model":"tiny","messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 4096) + b"]}",
        start + b"[" + of(TEXT_PART) + b"]}]}",
        start + b"[" + of(PICTURE_PART) + b"]}]}",
        start + b'"x"}],"functions":[' + of(b"[],") + b"]}",
    ]
    with ThreadPoolExecutor(len(bodies)) as clients:
        asked = [clients.submit(live.http.post, "/v1/chat/completions", content=body) for body in bodies]
        meanwhile = live.chat([part(noise(78)), text("?" * 1025)], max_tokens=1)
        assert meanwhile.status_code == 200, meanwhile.text
        answers = [future.result() for future in asked]
    codes = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
    assert codes == [
        *[(400, "context_length_exceeded")] * 2,
        (400, "invalid_value"),
        (400, "context_length_exceeded"),
        (413, "too_large"),
        (413, "too_large"),
        (400, "unsupported_parameter"),
    ]
    assert (live.pids(), live.statistics()["epoch"]) == (pids, epoch)


def test_a_template_that_does_not_end(live: Live) -> None:
    """It costs the parser, and the front end nothing."""
    pids = live.pids()
    refused = live.chat("<never>" + "x" * 1025)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert live.chat("?" * 1025, max_tokens=1).status_code == 200, "it waits for the new parser"
    after = live.pids()
    assert after.pop("parser") != pids.pop("parser")
    assert after == pids
