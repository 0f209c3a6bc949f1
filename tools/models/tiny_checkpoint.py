"""Write a tiny checkpoint of one architecture: random weights whose answers depend on the picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from architectures import VOCABULARY, Row
from transformers import AutoConfig, AutoModelForMultimodalLM, PreTrainedTokenizerFast

from mmplane.models.tiny import byte_tokenizer


def build(row: Row, folder: Path) -> None:
    """Write the checkpoint: model, tokenizer, the processor's files."""
    settings = dict(row.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.get_text_config().eos_token_id = VOCABULARY  # no token: every answer has all its tokens
    torch.manual_seed(row.seed)
    model = AutoModelForMultimodalLM.from_config(config, dtype=torch.float32)
    spread(model, embedding=row.embedding)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    _tokenizer(row).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(row.images))
    (folder / "processor_config.json").write_text(json.dumps(row.processor))


def spread(model: torch.nn.Module, *, embedding: float) -> None:
    """Scale the weights so that every layer keeps its input's size: then each token's embedding, of a text or of an
    image, moves the logits."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim < 2:
                if "gate" in name and value.numel() == 1:
                    value.fill_(1.0)  # Llama 3.2 Vision's pictures pass through gates that are closed at first
                continue
            embeds = "embed" in name and value.ndim == 2 and "proj" not in name
            fan_in = 1 if embeds else math.prod(value.shape[1:]) if value.ndim != 3 else max(value.shape[1:])
            value.normal_(0.0, (embedding if embeds else 1.4) / math.sqrt(fan_in))


def _tokenizer(row: Row) -> PreTrainedTokenizerFast:
    image = row.written or next(iter(row.special.values()))
    template = (
        (
            "BEGINS{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
            "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ IMAGE }}{% else %}{{ c['text'] }}{% endif %}"
            "{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
        )
        .replace("IMAGE", json.dumps(image))
        .replace("BEGINS", row.begins)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(row.tokens),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=dict(row.special),
        chat_template=template,
        model_max_length=4096,
    )
