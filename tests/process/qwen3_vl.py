"""A Qwen3-VL checkpoint of our own: deepstack, and a prompt that tells the time of every moment of a clip."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from mmplane.models.tiny import IMAGE_PROCESSOR, SPECIAL_TOKENS, tiny_tokenizer
from weights import enlarge


def build_qwen3_vl(folder: Path) -> None:
    """Write the checkpoint: model, tokenizer, image and video processor."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    ids = {token: 256 + index for index, token in enumerate(SPECIAL_TOKENS)}
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "vocab_size": 320,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [6, 5, 5], "rope_theta": 10000.0},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": 128,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "in_channels": 3,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(7)
    model = Qwen3VLForConditionalGeneration(config)
    enlarge(model, head=32.0)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.save_pretrained(folder)
    limits = {"patch_size": 16, "processor_class": "Qwen3VLProcessor"}
    images = {**IMAGE_PROCESSOR, **limits, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    size = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 400}
    videos = {"video_processor_type": "Qwen3VLVideoProcessor", "size": size, "processor_class": "Qwen3VLProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(videos))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processor_class": "Qwen3VLProcessor"}))
