"""A LLaVA checkpoint of our own: CLIP vision, Llama text, random weights. Nothing about it is Qwen's."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mmplane.models.tiny import byte_tokenizer
from weights import enlarge

SPECIAL = ["<s>", "</s>", "<pad>", "<image>"]
TEMPLATE = (
    "<s>{% for m in messages %}{{ m['role'] | upper }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def build_llava(folder: Path) -> None:
    """Write the checkpoint: model, tokenizer, image processor and processor."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(SPECIAL),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=84, patch_size=14
    )
    text = LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=264,
        max_position_embeddings=2048,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=258,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=259, image_seq_length=36)
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(config)
    enlarge(model, head=12.0)
    model.save_pretrained(folder)
    size = {"height": 84, "width": 84}
    images = CLIPImageProcessorPil(size={"shortest_edge": 84}, crop_size=size)
    processor = LlavaProcessor(
        images,
        wrapped,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
