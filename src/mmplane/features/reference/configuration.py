"""A model's configuration with the defaults of its own class."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig


def settings_of(model_folder: str) -> dict[str, Any]:
    """All of it in the form of `config.json`, with attributes that a class has under two names."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    settings: dict[str, Any] = config.to_dict()
    return settings | {name: getattr(config, name, None) for name in config.attribute_map}


def embedding_width(model_folder: str) -> int:
    """Width of a token's embedding, including those of the layers that a model adds to its own."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    deepstack = getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", None) or ()
    return int(config.get_text_config().hidden_size) * (1 + len(deepstack))
