"""A model's configuration with the defaults of its own class."""

from __future__ import annotations

from typing import Any, get_args

from transformers import AutoConfig

from mmplane.core.records import Modality


def settings_of(model_folder: str) -> dict[str, Any]:
    """The tokens that stand for items, as the attributes of the configuration's class name them."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    names = [f"{modality}_token_{kind}" for modality in get_args(Modality) for kind in ("id", "index")]
    return {name: getattr(config, name, None) for name in names}


def embedding_width(model_folder: str) -> int:
    """Of one token's embedding, with those of the layers that a model adds to its own."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    deepstack = getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", None) or ()
    return int(config.get_text_config().hidden_size) * (1 + len(deepstack))
