"""Which token of a prompt an item's embeddings replace."""

from __future__ import annotations

from typing import Any, get_args

from transformers import AutoConfig

from mmplane.core.records import Modality

MODALITIES: tuple[Modality, ...] = get_args(Modality)


def tokens_of(model_folder: str) -> dict[Modality, int]:
    """The token id of each modality that the model's own configuration names: what it can take at most."""
    config: Any = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    found: dict[Modality, int] = {}
    for modality in MODALITIES:
        for name in (f"{modality}_token_id", f"{modality}_token_index"):
            if (token := getattr(config, name, None)) is not None:
                found.setdefault(modality, int(token))
    return found
