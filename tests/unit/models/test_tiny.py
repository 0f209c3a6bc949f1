"""The built-in model: a complete folder, built once, with answers that depend on the picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.models.tiny import (
    SPECIAL_TOKENS,
    build_tiny,
    ensure_tiny,
    random_weights,
    tiny_config,
    tiny_tokenizer,
)

QUESTION = {"type": "text", "text": "Which number is this?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny(folder)
    return folder


def picture(number: str, ground: str = "white") -> Image.Image:
    image = Image.new("RGB", (224, 112), ground)
    ImageDraw.Draw(image).text((30, 25), number, fill="black", font=ImageFont.load_default(48))
    return image


def answer(folder: Path, *images: Image.Image) -> str:
    checkpoint = ReferenceCheckpoint.load(str(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": [*({"type": "image"} for _ in images), QUESTION]}]
    prompt = checkpoint.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = checkpoint.processor(images=list(images), text=[prompt], return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    return str(checkpoint.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_widths_divide_by_four_and_parameters_are_few() -> None:
    config = tiny_config()
    text = config.text_config
    for count in (text.num_attention_heads, text.num_key_value_heads, text.intermediate_size, text.vocab_size):
        assert count % 4 == 0
    assert sum(value.numel() for value in random_weights().values()) <= 3_900_000


def test_tokenizer_has_one_token_per_byte_and_the_special_ones() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(256, 256 + len(SPECIAL_TOKENS)))
    assert tokenizer.decode(tokenizer.encode("4821, é 猫")) == "4821, é 猫"
    assert len(tokenizer.encode("猫")) == 3


def test_the_template_asks_about_pictures_in_order() -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "image_url"}, QUESTION]}]
    prompt = tiny_tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    one = "<|vision_start|><|image_pad|><|vision_end|>"
    expected = f"<|im_start|>user\n{one}{one}Which number is this?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt == expected


def test_stored_as_bfloat16_and_small(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_picture_decides_the_answer(folder: Path) -> None:
    answers = [answer(folder, picture(number)) for number in ("4821", "73095")]
    assert len(set(answers)) == 2
    assert answers == ["4821", "73095"]


def test_several_pictures_are_answered_in_order(folder: Path) -> None:
    assert answer(folder, picture("4821"), picture("0937", "yellow")) == "4821, 0937"


def test_without_a_picture_it_says_so(folder: Path) -> None:
    checkpoint = ReferenceCheckpoint.load(str(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    prompt = checkpoint.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which number is this?"}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([checkpoint.tokenizer.encode(prompt)])
    with torch.inference_mode():
        out = model.generate(input_ids=ids, max_new_tokens=24, do_sample=False)
    assert checkpoint.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == "I see no picture."


def test_random_weights_are_the_same_every_time() -> None:
    first, second = random_weights(), random_weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other parameters"):
        build_tiny(tmp_path / "folder", weights=tmp_path / "other.safetensors")


def test_ensure_builds_once_though_many_ask_and_leaves_nothing_else(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: ensure_tiny(tmp_path), range(4)))
    assert len(folders) == 1
    assert list(tmp_path.iterdir()) == list(folders)
    before = (folders.copy().pop() / "model.safetensors").stat().st_mtime_ns
    assert (ensure_tiny(tmp_path) / "model.safetensors").stat().st_mtime_ns == before


def test_everybody_may_read_what_was_built(tmp_path: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in ensure_tiny(tmp_path).iterdir()} == {0o644}


def test_a_folder_that_another_user_keeps_to_himself_is_built_again_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ensure_tiny(tmp_path)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: may(path, mode) and path != theirs / "model.safetensors")
    ours = ensure_tiny(tmp_path)
    assert ours.name == f"{theirs.name}-{os.getuid()}"
    assert ensure_tiny(tmp_path) == ours
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()


SECOND_START = """
import subprocess, sys
from mmplane.commands.model import built_in_folder

subprocess.run = None  # a first start would build the model by it
print(built_in_folder(), "torch" in sys.modules)
"""


def test_a_second_start_builds_and_imports_nothing(tmp_path: Path) -> None:
    folder = ensure_tiny(tmp_path / "mmplane")
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", SECOND_START], env=env, capture_output=True, text=True, check=False)
    assert told.stdout == f"{folder} False\n", told.stderr
