"""`vllm bench serve` against our own server: chats about pictures, and texts to complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, serving
from vllm_live import VENV

from loads import REQUESTS, check_table, run

PICTURES = (
    *("--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--dataset-name", "random-mm"),
    *("--random-mm-base-items-per-request", "1", "--random-mm-bucket-config", "{(64, 96, 1): 1.0}"),
    *("--random-mm-limit-mm-per-prompt", json.dumps({"image": 1, "video": 0})),
)
TEXTS = ("--backend", "openai", "--endpoint", "/v1/completions", "--dataset-name", "random")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[Live]:
    with serving(folder) as live:
        yield live


@pytest.mark.parametrize("workload", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_every_request_succeeds(ours: Live, folder: Path, workload: tuple[str, ...]) -> None:
    lengths = ("--random-input-len", "16", "--random-output-len", "8", "--ignore-eos")
    asked = ("--base-url", ours.url, "--model", "tiny", "--tokenizer", folder, "--num-prompts", str(REQUESTS))
    printed = run([VENV / "bin" / "vllm", "bench", "serve", *asked, *workload, *lengths])
    check_table(printed, titles=["Mean TTFT (ms)", "Mean TPOT (ms)", "Mean ITL (ms)"])
