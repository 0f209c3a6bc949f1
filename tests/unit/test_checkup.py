"""`mmplane doctor --model`: what can be served, with how many ranks, and why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES
from tiny_checkpoint import build

from mmplane.commands.doctor import main

pytestmark = pytest.mark.filterwarnings("ignore")


def asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["--model", str(folder), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


@pytest.mark.parametrize(
    ("name", "tp", "image"),
    [
        ("qwen2_5_vl", [1, 2], "qwen_vl"),
        ("qwen3_vl_moe", [1, 2], "qwen_vl"),
        ("mllama", [1], "generic"),
        ("llava", [1, 2], "fixed_size"),
        ("pixtral", [1, 2], "pixtral"),
    ],
)
def test_what_can_be_served(
    name: str, tp: list[int], image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(ARCHITECTURES[name], tmp_path)
    capsys.readouterr()
    code, found = asked(tmp_path, capsys)
    assert (code, found["servable"], found["tp"], found["reason"]) == (0, True, tp, None)
    assert found["processor"] == {"image": image, "video": "qwen_video" if image == "qwen_vl" else None, "audio": None}
    assert main(["--model", str(tmp_path)]) == 0
    assert "It can be served" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("paligemma", "PaliGemmaForConditionalGeneration: each token of a prompt attends to those behind it"),
        ("minicpmv4_6", "MiniCPMV4_6ForConditionalGeneration: the prompts of this checkpoint number their images"),
    ],
)
def test_what_cannot_be_served(name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(ARCHITECTURES[name], tmp_path)
    capsys.readouterr()
    code, found = asked(tmp_path, capsys)
    assert (code, found["servable"], found["tp"]) == (1, False, [])
    assert found["reason"].startswith(why)
    assert main(["--parity", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "cannot be served" in said.err
    assert "agree" not in said.out


def test_a_checkpoint_without_a_chat_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The front end refuses it, before any weights are loaded."""
    build(ARCHITECTURES["llava"], tmp_path)
    for path in tmp_path.glob("chat_template*"):
        path.unlink()
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**json.loads((tmp_path / "tokenizer_config.json").read_text()), "chat_template": None})
    )
    capsys.readouterr()
    code, found = asked(tmp_path, capsys)
    assert (code, found["servable"]) == (1, False)
    assert found["reason"].endswith("this checkpoint has no chat template")
