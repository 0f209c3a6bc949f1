"""By what an image is replaced in a prompt: the rules of transformers' Processor classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmplane.features.arithmetic.sizes import best_canvas
from mmplane.features.checkpoint.vocabulary import Pieces, Vocabulary


@dataclass(frozen=True)
class Prompt:
    """What a rule looks at: the processor's settings, the image processor's options, and what an image became.

    `shape` is that of the features, `companions` are the small arrays beside them, `tiles` how many tiles there are.
    """

    settings: Mapping[str, Any]
    options: Mapping[str, Any]
    vocabulary: Vocabulary
    shape: tuple[int, ...]
    companions: Mapping[str, tuple[tuple[int, ...], ...]]
    tiles: int


@dataclass(frozen=True)
class PromptRule:
    """One class: `placeholder` names the token that stands for an image, `inputs` are what the model takes of an image.

    `images` are options of the image processor that the class overrides.
    """

    placeholder: Callable[[Vocabulary, Mapping[str, Any]], str]
    pieces: Callable[[Prompt], Pieces]
    inputs: frozenset[str] = frozenset({"pixel_values"})
    images: Mapping[str, Any] = field(default_factory=dict)


def _qwen_token(vocabulary: Vocabulary, _: Mapping[str, Any]) -> str:
    return vocabulary.named("image_token", "<|image_pad|>")


def _qwen_pieces(prompt: Prompt) -> Pieces:
    _, rows, columns = prompt.companions["image_grid_thw"][0]
    tokens = rows * columns // prompt.options["merge_size"] ** 2
    return [(_qwen_token(prompt.vocabulary, prompt.settings), tokens)]


def _llava_token(vocabulary: Vocabulary, settings: Mapping[str, Any]) -> str:
    return vocabulary.named("image_token", settings.get("image_token", "<image>"))


def _base_tokens(prompt: Prompt) -> int:
    """Of one view of the image."""
    height, width = prompt.shape[-2:]
    side, extra = prompt.settings["patch_size"], prompt.settings.get("num_additional_image_tokens", 0)
    left_out = prompt.settings.get("vision_feature_select_strategy") == "default"
    return int((height // side) * (width // side) + extra - left_out)


def _llava_pieces(prompt: Prompt) -> Pieces:
    return [(_llava_token(prompt.vocabulary, prompt.settings), _base_tokens(prompt))]


def _llava_next_pieces(prompt: Prompt) -> Pieces:
    """The base view, and the tiles without their padding: one row more than patches, for the ends of lines."""
    (height, width), (tile_height, tile_width) = prompt.companions["image_sizes"][0], prompt.shape[-2:]
    canvas = best_canvas(height, width, prompt.options["image_grid_pinpoints"])
    assert canvas is not None
    side = prompt.settings["patch_size"]
    rows, columns = tile_height // side * (canvas[0] // tile_height), tile_width // side * (canvas[1] // tile_width)
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    return [(_llava_token(prompt.vocabulary, prompt.settings), rows * columns + rows + _base_tokens(prompt))]


def _gemma_token(vocabulary: Vocabulary, _: Mapping[str, Any]) -> str:
    return vocabulary.named("boi_token")


def _gemma_pieces(prompt: Prompt) -> Pieces:
    named = prompt.vocabulary.named
    tokens = prompt.settings.get("image_seq_length", 256)
    return [("\n\n", 1), (named("boi_token"), 1), (named("image_token"), tokens), (named("eoi_token"), 1), ("\n\n", 1)]


def _intern_token(vocabulary: Vocabulary, _: Mapping[str, Any]) -> str:
    return vocabulary.named("context_image_token")


def _intern_pieces(prompt: Prompt) -> Pieces:
    named, tokens = prompt.vocabulary.named, prompt.settings.get("image_seq_length", 256) * prompt.tiles
    return [(named("start_image_token"), 1), (named("context_image_token"), tokens), (named("end_image_token"), 1)]


_QWEN = PromptRule(_qwen_token, _qwen_pieces, frozenset({"pixel_values", "image_grid_thw"}))

RULES: Mapping[str, PromptRule] = {
    "Qwen2VLProcessor": _QWEN,
    "Qwen2_5_VLProcessor": _QWEN,
    "Qwen3VLProcessor": _QWEN,
    "LlavaProcessor": PromptRule(_llava_token, _llava_pieces),
    "LlavaNextProcessor": PromptRule(
        _llava_token, _llava_next_pieces, frozenset({"pixel_values", "image_sizes"}), {"do_pad": True}
    ),
    "Gemma3Processor": PromptRule(_gemma_token, _gemma_pieces, images={"do_pan_and_scan": False}),
    "InternVLProcessor": PromptRule(_intern_token, _intern_pieces, images={"crop_to_patches": True}),
}
"""By the name of the class."""
