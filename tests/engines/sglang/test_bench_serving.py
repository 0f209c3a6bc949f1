"""`python -m sglang.bench_serving` against our own server: chats about pictures, and texts to complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, serving
from sglang_live import VENV

from loads import REQUESTS, check_table, run

PICTURES = (
    *("--backend", "sglang-oai-chat", "--dataset-name", "image"),
    *("--image-count", "1", "--image-resolution", "64x96"),
)
TEXTS = ("--backend", "sglang-oai", "--dataset-name", "random-ids")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[Live]:
    with serving(folder) as live:
        yield live


@pytest.mark.parametrize("workload", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_every_request_succeeds(ours: Live, folder: Path, workload: tuple[str, ...]) -> None:
    asked = ("--base-url", ours.url, "--model", folder, "--served-model-name", "tiny", "--tokenizer", folder)
    lengths = ("--num-prompts", str(REQUESTS), "--random-input-len", "16", "--random-output-len", "8")
    assert folder.name == "tiny", "it looks for a processor where the served name would be a folder"
    printed = run(
        [VENV / "bin" / "python", "-m", "sglang.bench_serving", *asked, *workload, *lengths], cwd=folder.parent
    )
    check_table(printed, titles=["Mean TTFT (ms)", "Mean TPOT (ms)", "Mean ITL (ms)"])
