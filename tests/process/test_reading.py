"""The built-in model reads numbers, so a crossed picture is a wrong answer: many at once, each compared with alone."""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import switch
from live import Live, serving
from pictures import part, text
from PIL import Image
from reference import Reference

from clips import clip_part, encode
from mmplane.config import DELIVERY_NAMES
from mmplane.demo import LOOKS, QUESTION, draw

ALL = 1000
COUNT = int(os.environ.get("MMPLANE_READINGS", "100"))
AT_ONCE = 24
TOKENS_MAX = 16


@pytest.fixture(scope="module")
def reading(trained_folder: Path) -> Iterator[Live]:
    with serving(trained_folder) as live:
        yield live


def drawings(count: int) -> list[tuple[str, bytes]]:
    """Numbers that are all different, and their pictures."""
    source = random.Random(17)
    numbers = [f"{number}" for number in source.sample(range(1000, 10000), count)]
    return [(number, draw(number, *LOOKS[at % len(LOOKS)])) for at, number in enumerate(numbers)]


@pytest.fixture(scope="module")
def expected(trained_folder: Path) -> list[tuple[str, bytes, str]]:
    """Numbers, their pictures, and what the model answers to each of them alone."""
    reference = Reference(trained_folder)

    def alone(picture: bytes) -> str:
        tokens = reference.expected([part(picture), text(QUESTION)], [picture], TOKENS_MAX).tokens
        said: str = reference.tokenizer.decode(tokens, skip_special_tokens=True)
        return said

    return [(number, picture, alone(picture)) for number, picture in drawings(COUNT)]


@pytest.mark.parametrize("delivery", DELIVERY_NAMES)
def test_many_at_once(reading: Live, expected: list[tuple[str, bytes, str]], delivery: str) -> None:
    """`arena` has them all; in `make test` each of the others has its share, so that together they have as many."""
    share = expected if delivery == "arena" or COUNT >= ALL else expected[:: len(DELIVERY_NAMES) - 1]
    assert reading.http.put("/admin/delivery", json={"name": delivery}).status_code == 200

    def ask(picture: bytes) -> str:
        answer = reading.chat([part(picture), text(QUESTION)], max_tokens=TOKENS_MAX)
        assert answer.status_code == 200, answer.text
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said

    with ThreadPoolExecutor(AT_ONCE) as threads:
        said = list(threads.map(ask, [picture for _, picture, _ in share]))
    assert said == [answer for _, _, answer in share]
    right = sum(answer == number for (number, _, _), answer in zip(share, said, strict=True))
    assert right >= 0.98 * len(share) - 1, f"{right} of {len(share)} read right"


def test_three_pictures_in_order(reading: Live) -> None:
    drawn = drawings(3)
    content = [part(picture) for _, picture in drawn]
    answers = set()
    for turn in range(3):
        turned = content[turn:] + content[:turn]
        numbers = [number for number, _ in drawn[turn:] + drawn[:turn]]
        question = text("Which numbers are these?")
        answer = reading.chat([*turned, question], max_tokens=40).json()["choices"][0]["message"]["content"]
        answers.add(answer)
        assert answer == ", ".join(numbers)
    assert len(answers) == 3


def frame(number: str) -> np.ndarray:
    with Image.open(io.BytesIO(draw(number, *LOOKS[0]))) as image:
        return np.asarray(image.convert("RGB"))


def test_the_right_frames_arrive(reading: Live) -> None:
    """A clip's frames that are sampled show one number, all others another: only who sees the right ones can answer."""
    switch(reading, "arena")
    for right, wrong, count, sampled in (("4821", "1379", 24, 4), ("7306", "2548", 30, 6)):
        taken = {int(index) for index in torch.arange(0, count, count / sampled)}
        frames = [frame(right if index in taken else wrong) for index in range(count)]
        media = encode(frames, crf="12", preset="veryfast")
        for _ in range(2):
            answer = reading.chat(
                [clip_part(media), text(QUESTION)],
                max_tokens=16,
                mmplane={"trace": True, "video": {"frames": sampled}},
            ).json()
            assert answer["choices"][0]["message"]["content"] == right
            (item,) = answer["mmplane"]["trace"]["items"]
            assert set(item["sampling"]["frames"]) == taken


def test_the_picture_in_the_readme(reading: Live) -> None:
    """A new user pastes the curl, and gets the answer that stands above it."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (body,) = re.findall(r"^curl \S+/v1/chat/completions .*? -d '(\{.*?\})'$", readme, re.MULTILINE | re.DOTALL)
    (right,) = re.findall(r"the answer is `(\d+)`", readme)
    answer = reading.http.post("/v1/chat/completions", json=json.loads(body)).json()
    assert answer["choices"][0]["message"]["content"] == right
