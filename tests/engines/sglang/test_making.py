"""A server whose pictures the sidecar makes: with one rank and two tokenizer workers, and with two ranks."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import OPTIONS
from PIL import Image
from sglang_alone import Alone
from sglang_live import SGLang, body, part, serving, text
from sglang_work import CHINA, FLOWER, answers

from mmplane.embed.client import Client, connect
from mmplane.embed.errors import Full
from polling import until

ARENA_BYTES = 128 * 2**20
WORKERS = {1: 2, 2: 1}
AT_ONCE = 8
LIMIT_S = 120.0
BAD = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.fixture(scope="module")
def making(folder: Path, tp: int, alone: Alone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SGLang]:
    """It is asked once every tokenizer worker has tried the bits."""
    log, options = tmp_path_factory.mktemp("making") / f"tp{tp}.log", OPTIONS[tp]
    options += ("--tokenizer-worker-num", str(WORKERS[tp]))
    how: dict[str, Any] = {"plugins": "mmplane,faults", "arena_bytes": ARENA_BYTES, "processor": "auto", "log": log}
    with serving(folder, *options, tp=tp, **how) as server:
        until(
            lambda: server.figures().get("processor_on") == WORKERS[tp], LIMIT_S, "the trial has passed in each worker"
        )
        yield server


@pytest.fixture
def client(making: SGLang) -> Iterator[Client]:
    """At the server's sidecar."""
    (socket,) = re.findall(r"ready after .* at (\S+)", making.log())
    with connect(socket) as client:
        yield client


def test_answers_are_the_same(alone: Alone, making: SGLang) -> None:
    before = made(making)
    assert answers(making) == alone.answers
    assert made(making) > before + 50


def test_a_picture_is_made_once_for_all_workers(making: SGLang, client: Client) -> None:
    before, materialisations = made(making), client.statistics()["materialisations"]
    asked = [part(CHINA.crop((5, 6, 405, 306))), text("What is this?")]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        given = list(threads.map(lambda _: making.answers(asked), range(AT_ONCE)))
    assert given == [given[0]] * AT_ONCE
    assert client.statistics()["materialisations"] == materialisations + 1
    assert made(making) == before + AT_ONCE


def test_a_bad_picture_harms_its_own_request(making: SGLang) -> None:
    good = [part(FLOWER.crop((50, 60, 250, 260))), text("What is this?")]
    expected = making.answers(good)
    with ThreadPoolExecutor(2) as threads:
        bad, fine = threads.map(lambda content: making.chat(content), ([BAD, text("?")], good))
    assert bad.status_code == 400
    assert "cannot identify image file" in bad.json()["message"]
    assert [choice["message"]["content"] for choice in fine.json()["choices"]] == expected


def test_a_full_sidecar_is_503_and_retry_after(making: SGLang, client: Client) -> None:
    picture = [part(CHINA.crop((1, 2, 601, 402))), text("What is this?")]
    with ExitStack() as held:
        files = (png(CHINA.crop((0, 0, 640 - at, 400))) for at in range(600))
        with pytest.raises(Full):
            list(map(held.enter_context, map(client.materialise, files)))
        refused = [making.chat(picture), making.http.post("/v1/chat/completions", json=body(picture, stream=True))]
        refused.append(making.http.post("/generate", json=native(picture[0])))
        assert [(each.status_code, each.headers.get("retry-after")) for each in refused] == [(503, "1")] * 3
    assert making.chat(picture).status_code == 200


def native(picture: dict[str, Any]) -> dict[str, Any]:
    prompt = "<|vision_start|><|image_pad|><|vision_end|>"
    return {"text": prompt, "image_data": picture["image_url"]["url"], "sampling_params": {"max_new_tokens": 1}}


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def made(server: SGLang) -> int:
    """Pictures that the sidecar has made for this server's tokenizers."""
    return int(server.figures().get("pictures_made", 0))
