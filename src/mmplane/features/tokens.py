"""Which token of a prompt an image's embeddings replace."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig


def image_token_of(model_folder: str) -> int:
    """The token id that the model's own configuration names. Raises ValueError when it names none."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    for name in ("image_token_id", "image_token_index"):
        if (token := getattr(config, name, None)) is not None:
            return int(token)
    raise ValueError("this checkpoint takes no images: its configuration names no image token")
