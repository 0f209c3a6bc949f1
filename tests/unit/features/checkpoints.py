"""Tiny checkpoint folders, one per family: configuration and a tokenizer of a few words, no weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

SPECIAL = {
    "image_token": "<image>",
    "boi_token": "<boi>",
    "eoi_token": "<eoi>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<context>",
    "video_token": "<video>",
    "fake_image_token": "<fake>",
    "global_image_token": "<global>",
}
QWEN_SPECIAL = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
}


@dataclass(frozen=True)
class Family:
    """What the configuration files of one family hold."""

    preprocessor: dict[str, Any]
    processor: dict[str, Any]
    model_type: str
    special: dict[str, str] = field(default_factory=lambda: SPECIAL)

    def write(self, folder: Path, **changes: Any) -> str:
        """Write a folder that `ImageCheckpoint` can load, with changes to the image processor's options; its path."""
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = {word: index for index, word in enumerate(["<unk>", "\n", "a", "b", "c", *self.special.values()])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        tokenizer.add_special_tokens(list(self.special.values()))
        tokenizer.save(str(folder / "tokenizer.json"))
        tokenizer_config = {
            "tokenizer_class": "TokenizersBackend",
            "unk_token": "<unk>",
            "model_max_length": 1 << 30,
            "extra_special_tokens": self.special,
        }
        for name, content in {
            "config.json": {"model_type": self.model_type},
            "preprocessor_config.json": self.preprocessor | changes,
            "processor_config.json": self.processor,
            "tokenizer_config.json": tokenizer_config,
        }.items():
            (folder / name).write_text(json.dumps(content))
        return str(folder)


_LLAVA_RULES = {"processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default"}
_SQUARE = {"height": 56, "width": 56}
_SHORTEST = {"shortest_edge": 56}
_QWEN = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": 56 * 56,
    "max_pixels": 28 * 28 * 1280,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}

FAMILIES = {
    "qwen2_5_vl": Family(_QWEN, {"processor_class": "Qwen2_5_VLProcessor"}, "qwen2_5_vl", QWEN_SPECIAL),
    "qwen3_vl": Family(
        _QWEN | {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"processor_class": "Qwen3VLProcessor"},
        "qwen3_vl",
        QWEN_SPECIAL,
    ),
    "llava": Family(
        {"image_processor_type": "CLIPImageProcessor", "size": _SHORTEST, "crop_size": 56}, _LLAVA_RULES, "llava"
    ),
    "llava_padded": Family(
        {"image_processor_type": "LlavaImageProcessor", "size": _SHORTEST, "crop_size": 56, "do_pad": True},
        _LLAVA_RULES,
        "llava",
    ),
    "llava_siglip": Family({"image_processor_type": "SiglipImageProcessor", "size": _SQUARE}, _LLAVA_RULES, "llava"),
    "gemma3": Family(
        {"image_processor_type": "Gemma3ImageProcessor", "size": _SQUARE},
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        "gemma3",
    ),
    "internvl": Family(
        {"image_processor_type": "GotOcr2ImageProcessor", "size": _SQUARE},
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
        "internvl",
    ),
    "llava_next": Family(
        {
            "image_processor_type": "LlavaNextImageProcessor",
            "size": _SHORTEST,
            "crop_size": 56,
            "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]],
        },
        _LLAVA_RULES | {"processor_class": "LlavaNextProcessor"},
        "llava_next",
    ),
    "idefics3": Family(
        {
            "image_processor_type": "Idefics3ImageProcessor",
            "size": {"longest_edge": 128},
            "max_image_size": {"longest_edge": 64},
        },
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        "idefics3",
    ),
}
"""All families that the tests know. `idefics3` has no fast path."""
