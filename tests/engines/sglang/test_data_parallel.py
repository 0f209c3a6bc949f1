"""Two tokenizer processes, each with an arena of its own, and two data-parallel groups that either may send to.

The model is the built-in one with its own weights, so that this shows a second thing: SGLang's model code reads the
same numbers from the same pictures as transformers'.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import part
from reference import Reference
from sglang_live import is_titled, maps_an_arena, serving, text

from mmplane.demo import LOOKS, QUESTION, draw
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny
from polling import until

LIMIT_S = 180.0
AT_ONCE = 4
NUMBERS = 30
ROUNDS = 3
TOKENS_MAX = 8


def test_two_tokenizers_and_two_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tiny(tmp_path / "tiny", weights=SHIPPED_WEIGHTS)
    numbers = [f"{number}" for number in random.Random(5).sample(range(1000, 10000), NUMBERS)]
    pictures = [draw(number, *LOOKS[at % len(LOOKS)]) for at, number in enumerate(numbers)]
    expected = alone(tmp_path / "tiny", pictures)
    monkeypatch.setenv("SGLANG_CPU_OMP_THREADS_BIND", "0|1")
    options = ["--dp-size", "2", "--tokenizer-worker-num", "2"]
    how = {"tp": 1, "plugins": "mmplane", "arena_bytes": 64 * 2**20, "log": tmp_path / "log"}
    with serving(tmp_path / "tiny", *options, **how) as server:
        asked = [[part(picture), text(QUESTION)] for picture in pictures]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in range(ROUNDS):
                said = [answer for (answer,) in threads.map(server.answers, asked)]
                assert said == expected
        assert sum(map(str.__eq__, said, numbers)) >= NUMBERS - 1
        until(lambda: server.figures()["arena_leases"] == 0, LIMIT_S, "no rank holds a lease")
        until(
            lambda: sum(map(server.figures().get, ("arena_hits", "arena_misses"))) == ROUNDS * NUMBERS,
            LIMIT_S,
            "all were counted",
        )
        assert server.figures()["arena_items"] >= NUMBERS
        assert len(server.ranks()) == 2
        assert all(map(maps_an_arena, server.ranks()))
        family = [server.tokenizer, *server.tokenizer.children(recursive=True)]
        workers = [process for process in family if is_titled(process, "sglang::tokenizer_worker")]
        assert [process.pid for process in workers if not maps_an_arena(process)] == []


def alone(folder: Path, pictures: list[bytes]) -> list[str]:
    """What transformers says to each picture."""
    reference = Reference(folder)

    def read(picture: bytes) -> str:
        answer = reference.expected([part(picture), text(QUESTION)], [picture], TOKENS_MAX)
        said: str = reference.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        return said

    return [read(picture) for picture in pictures]
