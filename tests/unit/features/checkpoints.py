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
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
}
PIXTRAL_SPECIAL = {"image_token": "[IMG]", "image_break": "[IMG_BREAK]", "image_end": "[IMG_END]"}
GLM_SPECIAL = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "image_start": "<|begin_of_image|>",
    "image_end": "<|end_of_image|>",
    "video_start": "<|begin_of_video|>",
    "video_end": "<|end_of_video|>",
}
LLAMA_SPECIAL = {
    "image_token": "<|image|>",
    "start": "<|image_start|>",
    "end": "<|image_end|>",
    "patch": "<|patch|>",
    "across": "<|tile_x_separator|>",
    "down": "<|tile_y_separator|>",
}
MINICPM_SPECIAL = {
    "image_token": "<unit>",
    "video_token": "<video>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
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
    config: dict[str, Any] = field(default_factory=dict)

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
            "pad_token": "<unk>",
            "model_max_length": 1 << 30,
            "extra_special_tokens": self.special,
        }
        for name, content in {
            "config.json": {"model_type": self.model_type, **self.config},
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

_IDEFICS = {
    "image_processor_type": "Idefics3ImageProcessor",
    "size": {"longest_edge": 96},
    "max_image_size": {"longest_edge": 32},
}
_GLM = {"size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 60}}

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
    "llava_onevision": Family(
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": _SQUARE,
            "image_grid_pinpoints": [[56 * rows, 56 * columns] for rows in range(1, 5) for columns in range(1, 5)],
        },
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_4",
        },
        "llava_onevision",
    ),
    "idefics3": Family(_IDEFICS, {"processor_class": "Idefics3Processor", "image_seq_len": 4}, "idefics3"),
    "smolvlm": Family(
        _IDEFICS | {"image_processor_type": "SmolVLMImageProcessor"},
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        "smolvlm",
    ),
    "pixtral": Family(
        {
            "image_processor_type": "PixtralImageProcessor",
            "patch_size": {"height": 8, "width": 8},
            "size": {"longest_edge": 128},
        },
        {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2},
        "mistral3",
        PIXTRAL_SPECIAL,
    ),
    "glm4v": Family(
        _GLM | {"image_processor_type": "Glm4vImageProcessor"},
        {"processor_class": "Glm4vProcessor"},
        "glm4v",
        GLM_SPECIAL,
    ),
    "glm46v": Family(
        _GLM | {"image_processor_type": "Glm46VImageProcessor"},
        {"processor_class": "Glm46VProcessor"},
        "glm46v",
        GLM_SPECIAL,
    ),
    "paddle_ocr": Family(
        {
            "image_processor_type": "PaddleOCRVLImageProcessor",
            "min_pixels": 28 * 28 * 4,
            "max_pixels": 28 * 28 * 30,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        {"processor_class": "PaddleOCRVLProcessor"},
        "paddleocr_vl",
    ),
    "minicpm_v": Family(
        {"image_processor_type": "MiniCPMV4_6ImageProcessor", "scale_resolution": 112},
        {"processor_class": "MiniCPMV4_6Processor"},
        "minicpmv4_6",
        MINICPM_SPECIAL,
        {"image_token_id": 5},
    ),
    "llama4": Family(
        {"image_processor_type": "Llama4ImageProcessorFast", "size": _SQUARE, "max_patches": 5},
        {"processor_class": "Llama4Processor", "patch_size": 14, "pixel_shuffle_ratio": 0.5},
        "llama4",
        LLAMA_SPECIAL,
    ),
    "phi4_multimodal": Family(
        {"image_processor_type": "Phi4MultimodalImageProcessor", "size": _SQUARE, "dynamic_hd": 4},
        {"processor_class": "Phi4MultimodalProcessor"},
        "phi4_multimodal",
        {**SPECIAL, "audio_token": "<sound>"},
        {"image_token_id": 5},
    ),
    "kimi_vl": Family(
        {
            "image_processor_type": "Kimi_K25ImageProcessor",
            "max_patches": 100,
            "size": {"max_height": 12, "max_width": 12},
        },
        {"processor_class": "Kimi_K25Processor"},
        "kimi_k25",
    ),
}
"""All families that the tests know."""

TORCHVISION_ALONE = ("llama4", "kimi_vl", "phi4_multimodal")
"""Those that transformers has no other backend for."""

GENERIC = Family({"image_processor_type": "ViTImageProcessor", "size": _SQUARE}, _LLAVA_RULES, "llava")
"""Without a fast path."""
