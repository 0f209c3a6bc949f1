"""Prompts are tokenised without their runs of placeholders, and have the tokens of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from mmplane.engines.sglang.processor import runs
from mmplane.models.tiny import build_tiny

PAD = "<|image_pad|>"
TEXTS = (
    f"{PAD * 400}",
    f"one {PAD * 400} two {PAD}three{PAD * 3}",
    "no picture",
    f"été 你好{PAD * 7}\u0301 <|im_start|>{PAD * 9}<|im_end|>",
    f"<|image_pad{PAD * 2}|image_pad|>",
)
ASKED: dict[str, Any] = {"padding": True, "return_tensors": "pt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny(folder)
    return folder


class Tokenizers:
    """A checkpoint's tokenizer as it is, and shortened; `made`: whether the sidecar made the pictures."""

    def __init__(self, folder: Path) -> None:
        self.own, self.short = (AutoTokenizer.from_pretrained(folder) for _ in range(2))
        self.made = True
        self.processor = SimpleNamespace(tokenizer=self.short, image_token_id=self.short.convert_tokens_to_ids(PAD))

    def shorten(self) -> None:
        maker: Any = SimpleNamespace(has_given=lambda: self.made)
        runs.shorten(self.processor, maker)


@pytest.fixture
def tokenizers(folder: Path) -> Tokenizers:
    return Tokenizers(folder)


def equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def all_equal(tokenizers: Tokenizers) -> bool:
    return all(equal(tokenizers.own([text], **ASKED), tokenizers.short([text], **ASKED)) for text in TEXTS)


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch, tokenizers: Tokenizers) -> list[int]:
    """How long the texts were that transformers' tokenizer was given."""
    kind, found = type(tokenizers.own), []
    call: Callable[..., Any] = kind.__call__

    def noted(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(len(text[0]))
        return call(self, text, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", noted)
    return found


def test_the_tokens_are_those_of_the_whole_text(tokenizers: Tokenizers, lengths: list[int]) -> None:
    tokenizers.shorten()
    assert all_equal(tokenizers)
    lengths.clear()
    tokenizers.short([f"a {PAD * 400}"], **ASKED)
    assert lengths == [len(f"a {PAD}")]
    assert isinstance(tokenizers.short, type(tokenizers.own))


def test_mutant_each_run_has_the_length_of_the_first(tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch) -> None:
    own = runs.repeated
    monkeypatch.setattr(runs, "repeated", lambda short, token, long: own(short, token, long[:1] * len(long)))
    tokenizers.shorten()
    assert not all_equal(tokenizers)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ([f"{PAD * 9}", f"{PAD * 8}"], ASKED),
        (f"{PAD * 9}", ASKED),
        ([f"{PAD * 9}"], {"padding": True}),
        ([f"{PAD * 9}"], ASKED | {"truncation": True, "max_length": 4}),
        ([f"{PAD * 9}"], ASKED | {"return_offsets_mapping": True}),
    ],
)
def test_every_other_call_is_the_tokenizers_own(
    tokenizers: Tokenizers, lengths: list[int], text: Any, asked: dict[str, Any]
) -> None:
    tokenizers.shorten()
    tokenizers.short(text, **asked)
    assert lengths == [len(text[0])]


def test_pictures_that_the_engine_makes_leave_its_tokenizer_alone(tokenizers: Tokenizers, lengths: list[int]) -> None:
    tokenizers.shorten()
    tokenizers.made = False
    tokenizers.short([PAD * 9], **ASKED)
    assert lengths == [len(PAD * 9)]


@pytest.mark.parametrize("odd", [{"lstrip": True}, {"rstrip": True}, {"normalized": True}, {"special": False}])
def test_a_placeholder_that_depends_on_its_surroundings_is_refused(odd: dict[str, bool]) -> None:
    added = AddedToken(PAD, **({"special": True, "normalized": False} | odd))
    tokenizer = SimpleNamespace(is_fast=True, added_tokens_decoder={5: added})
    maker: Any = SimpleNamespace()
    runs.shorten(SimpleNamespace(tokenizer=tokenizer, image_token_id=5), maker)
    runs.shorten(SimpleNamespace(tokenizer=tokenizer, image_token_id=6), maker)
    assert type(tokenizer) is SimpleNamespace
