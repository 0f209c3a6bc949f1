"""Render processes of a sidecar: vLLM's answers without the keeper, and whoever dies or is attacked, others answer."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rendered import check_that_all_is_vllms
from sidecar_live import LiveSidecar, sidecar
from tests.chaos.sidecar import FLAGS

from attaching import picture
from clips import clip_part, encode, moving
from mmplane.config import Config
from polling import until
from render_requests import MODEL_ID, requests

PATH = "/v1/chat/completions/render"
OPERATOR, ALICE, BOB = (f"sk-{secrets.token_hex(16)}" for _ in range(3))
LIMIT_S = 60.0
STRANGERS = ("slow header", "slow body", "header flood", "1 MB texts", "many parts")
ATTACK_SECONDS = 3.0
PROGRAM = str(Path(__file__).with_name("strangers.py"))


@pytest.fixture(scope="module")
def live(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSidecar]:
    folder = tmp_path_factory.mktemp("render")
    (folder / "keys").write_text(f"{OPERATOR}\nalice:{ALICE}\nbob:{BOB}\n")
    flags = ("--http-port", "0", "--render-processes", "2", "--model-id", MODEL_ID)
    with sidecar(tiny_folder, folder / "socket", *FLAGS, *flags, "--api-key-file", str(folder / "keys")) as live:
        yield live


def address(live: LiveSidecar) -> httpx.URL:
    found = re.search(r"http://\S+", live.said)
    assert found, live.said
    return httpx.URL(found.group())


def connecting(live: LiveSidecar, key: str = BOB) -> httpx.Client:
    """A client with connections of its own."""
    return httpx.Client(base_url=address(live), headers={"authorization": f"Bearer {key}"}, timeout=LIMIT_S)


@contextmanager
def standing_still(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED, LIMIT_S, "it is stopped")
        yield
    finally:
        process.resume()


def answered(client: httpx.Client) -> dict[str, float]:
    """Answered requests by process, whichever process says so."""
    text = client.get("/metrics", headers={"authorization": f"Bearer {OPERATOR}"}).raise_for_status().text
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {
        each.labels["process"]: each.value
        for each in samples
        if each.name == "mmplane_render_requests_total" and each.labels["outcome"] == "answered"
    }


def body_of(*parts: dict[str, Any]) -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    return {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": content}]}


SHORT = next(requests())


def test_all_is_vllms_and_the_keeper_is_not_asked(live: LiveSidecar) -> None:
    """No worker and no other process of the sidecar hears of an image."""
    with live.client() as attached, connecting(live) as client:
        before = attached.statistics()
        check_that_all_is_vllms(lambda body: client.post(PATH, json=body))
        after = attached.statistics()
    for name in ("sessions", "workers", "materialisations", "arena"):
        assert after[name] == before[name], name


def test_each_process_answers_while_the_other_stands_still(live: LiveSidecar) -> None:
    """The listening socket is one: no connection waits for a process that does not accept."""
    for index, other in (("1", "2"), ("2", "1")):
        with standing_still(live.process(f"render {other}")), connecting(live) as client:
            before = answered(client)
            for _ in range(5):
                assert client.post(PATH, json=SHORT).status_code == 200
            expected = before | {index: before[index] + 5}
            until(lambda: answered(client) == expected, LIMIT_S, f"{expected}")  # noqa: B023


def test_what_is_answered(live: LiveSidecar) -> None:
    url = address(live)
    assert httpx.get(url.join("/health")).status_code == 200
    assert httpx.post(url.join(PATH), json=SHORT).status_code == 401
    with connecting(live) as client:
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/metrics").status_code == 403
        assert client.post("/v1/chat/completions", json=SHORT).status_code == 404
        assert client.post(PATH, json=SHORT | {"model": "other"}).status_code == 404
        embeddings = client.post(PATH, json=body_of({"type": "image_embeds", "image_embeds": "AAAA"}))
        assert (embeddings.status_code, embeddings.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_a_clip_is_looked_at_once_by_a_worker(live: LiveSidecar) -> None:
    clip = encode(moving(12))
    with live.client() as attached, ExitStack() as stack:
        jobs = attached.statistics()["workers"]["jobs"]
        answers = []
        for other in ("1", "2"):
            with standing_still(live.process(f"render {other}")):
                client = stack.enter_context(connecting(live))
                answers.append(client.post(PATH, json=body_of(clip_part(clip))).raise_for_status().json())
        frames_max = Config(model="", model_folder="", served_name="").video_frames_max
        layout = attached.layout(clip, options={"frames": frames_max}, tenant="bob")
        assert attached.statistics()["workers"]["jobs"] == jobs + 1
    for answer in answers:
        assert answer["features"]["mm_hashes"] == {"video": [layout.key.hex()]}
        (place,) = answer["features"]["mm_placeholders"]["video"]
        ids = answer["token_ids"][place["offset"] :][: place["length"]]
        assert ids == [token for token, count in layout.expansion for _ in range(count)]


def test_a_killed_process_harms_no_request_of_others(live: LiveSidecar) -> None:
    victim, other = live.process("render 1"), live.process("render 2")
    url, body = address(live), json.dumps(SHORT).encode()
    under_way = http.client.HTTPConnection(url.host, url.port, timeout=LIMIT_S)
    with standing_still(victim):
        under_way.request("POST", PATH, body, {"authorization": f"Bearer {BOB}"})
        assert under_way.getresponse().read()
    under_way.putrequest("POST", PATH)
    under_way.putheader("authorization", f"Bearer {BOB}")
    under_way.putheader("content-length", str(len(body)))
    under_way.endheaders(body[:100])
    with connecting(live) as client:
        before = answered(client)
    victim.kill()
    for _ in range(5):
        with connecting(live) as client:
            assert client.post(PATH, json=SHORT).status_code == 200
    under_way.send(body[100:])
    assert under_way.getresponse().status == 200
    under_way.close()
    with standing_still(other), connecting(live) as client:  # its connection waits for the successor
        assert client.post(PATH, json=SHORT).status_code == 200
        assert answered(client)["1"] >= before["1"]
    assert live.process("render 2") == other


def test_strangers_do_not_take_it_from_others(live: LiveSidecar) -> None:
    url, asked = address(live), 0
    pids = {index: live.process(f"render {index}").pid for index in (1, 2)}
    with ExitStack() as stack:
        where = (url.host, str(url.port), ALICE, str(ATTACK_SECONDS), PATH)
        strangers = [
            stack.enter_context(subprocess.Popen([sys.executable, PROGRAM, kind, *where])) for kind in STRANGERS
        ]
        ends_s = monotonic() + ATTACK_SECONDS
        while monotonic() < ends_s:
            with connecting(live) as client:
                assert client.post(PATH, json=SHORT).status_code == 200
            asked += 1
        assert [stranger.wait(LIMIT_S) for stranger in strangers] == [0] * len(strangers)
    assert asked > 1
    assert {index: live.process(f"render {index}").pid for index in (1, 2)} == pids


def test_images_need_no_keeper_and_clips_find_its_successor(live: LiveSidecar) -> None:
    keeper, clip = live.process("sidecar"), body_of(clip_part(encode(moving(8))))
    with live.client() as attached, connecting(live) as client:
        with standing_still(keeper):
            assert client.post(PATH, json=SHORT).status_code == 200
        keeper.kill()
        assert client.post(PATH, json=SHORT).status_code == 200
        attached.wait()
        until(lambda: client.post(PATH, json=clip).status_code == 200, LIMIT_S, "the successor looks at clips")
        bad = picture("a")[:40]
        refused = client.post(PATH, json=body_of(clip_part(bad)))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_media")
