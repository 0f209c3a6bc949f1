"""The tokens that replace an image in a prompt, by the rules of transformers' Processor classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmplane.features.checkpoint.vocabulary import Pieces, Vocabulary

Settings = Mapping[str, Any]

Companions = Mapping[str, npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]]
"""Outputs of an image processor beside the features, by transformers' names: for the model, or only for the prompt.

Booleans are masks that the model takes as floats.
"""


@dataclass(frozen=True)
class Prompt:
    """Inputs of a rule: the processor's settings, the image processor's options, and the image's outputs.

    `shape` is that of the features.
    """

    settings: Settings
    options: Mapping[str, Any]
    vocabulary: Vocabulary
    shape: tuple[int, ...]
    companions: Companions


@dataclass(frozen=True)
class PromptRule:
    """One class: `placeholder` names the token of an image, `inputs` are the model's inputs for an image.

    `images` are options of the image processor that the class overrides.
    """

    placeholder: Callable[[Vocabulary, Settings], str]
    pieces: Callable[[Prompt], Pieces]
    inputs: frozenset[str] = frozenset({"pixel_values"})
    images: Callable[[Settings], Mapping[str, Any]] = lambda _: {}


def tokenizers_image_token(default: str | None = None) -> Callable[[Vocabulary, Settings], str]:
    """The placeholder of a class that asks its tokenizer."""
    return lambda vocabulary, _: vocabulary.named("image_token", default)


def merged_patches(placeholder: Callable[[Vocabulary, Settings], str]) -> PromptRule:
    """The rule of a class that takes patches with a grid, of which merge x merge become one token."""

    def pieces(prompt: Prompt) -> Pieces:
        tokens = int(prompt.companions["image_grid_thw"].prod()) // prompt.options["merge_size"] ** 2
        return [(placeholder(prompt.vocabulary, prompt.settings), tokens)]

    return PromptRule(placeholder, pieces, frozenset({"pixel_values", "image_grid_thw"}))


def llava_token(vocabulary: Vocabulary, settings: Settings) -> str:
    """The placeholder of LLaVA and LLaVA-NeXT."""
    return vocabulary.named("image_token", settings.get("image_token", "<image>"))


def llava_view_tokens(prompt: Prompt) -> int:
    """Tokens of one view of the image, in LLaVA and LLaVA-NeXT."""
    height, width = prompt.shape[-2:]
    side, extra = prompt.settings["patch_size"], prompt.settings.get("num_additional_image_tokens", 0)
    left_out = prompt.settings.get("vision_feature_select_strategy") == "default"
    return int((height // side) * (width // side) + extra - left_out)
