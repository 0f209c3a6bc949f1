"""By what an image is replaced in a prompt: what the rules of transformers' Processor classes look at and say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmplane.features.checkpoint.vocabulary import Pieces, Vocabulary

Settings = Mapping[str, Any]

Companions = Mapping[str, npt.NDArray[np.integer[Any]]]
"""What an image processor gives beside the features, by transformers' names: for the model, or for the prompt alone."""


@dataclass(frozen=True)
class Prompt:
    """What a rule looks at: the processor's settings, the image processor's options, and what an image became.

    `shape` is that of the features.
    """

    settings: Settings
    options: Mapping[str, Any]
    vocabulary: Vocabulary
    shape: tuple[int, ...]
    companions: Companions


@dataclass(frozen=True)
class PromptRule:
    """One class: `placeholder` names the token that stands for an image, `inputs` are what the model takes of an image.

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
    """The rule of a class that takes patches with a grid, of which merge x merge make one token."""

    def pieces(prompt: Prompt) -> Pieces:
        tokens = int(prompt.companions["image_grid_thw"].prod()) // prompt.options["merge_size"] ** 2
        return [(placeholder(prompt.vocabulary, prompt.settings), tokens)]

    return PromptRule(placeholder, pieces, frozenset({"pixel_values", "image_grid_thw"}))


def llava_token(vocabulary: Vocabulary, settings: Settings) -> str:
    """The placeholder of LLaVA and LLaVA-NeXT."""
    return vocabulary.named("image_token", settings.get("image_token", "<image>"))


def llava_view_tokens(prompt: Prompt) -> int:
    """Of one view of the image, in LLaVA and LLaVA-NeXT."""
    height, width = prompt.shape[-2:]
    side, extra = prompt.settings["patch_size"], prompt.settings.get("num_additional_image_tokens", 0)
    left_out = prompt.settings.get("vision_feature_select_strategy") == "default"
    return int((height // side) * (width // side) + extra - left_out)
