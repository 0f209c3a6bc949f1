"""How a model turns one item's features into embeddings: transformers' own way for each modality."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.masking_utils import create_bidirectional_mask

from mmplane.core.records import Modality
from mmplane.features.tokens import MODALITIES

Tensors = dict[str, torch.Tensor]
Encoder = Callable[[Tensors], torch.Tensor]
"""An item's tensors to rows [tokens, hidden]; with deepstack (Qwen3-VL) [tokens, (1 + layers) * hidden].

What deepstack adds to the hidden states after each of the first layers follows the embeddings, layer by layer.
"""


def encoders_of(model: Any) -> dict[Modality, Encoder]:
    """What the model can encode: by its `get_image_features` and the like, or as this file knows it."""
    found: dict[Modality, Encoder] = {}
    for modality in MODALITIES:
        if (method := getattr(model, f"get_{modality}_features", None)) is not None:
            found[modality] = _by(method)
    if model.config.model_type == "qwen2_audio":
        found["audio"] = _qwen2_audio(model)
    return found


def parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of a function's parameters."""
    return frozenset(inspect.signature(function).parameters)


def _by(method: Callable[..., Any]) -> Encoder:
    names = parameters_of(method)

    def encode(tensors: Tensors) -> torch.Tensor:
        output = method(**_named(tensors, names))
        stacked = [getattr(output, "pooler_output", output), *(getattr(output, "deepstack_features", None) or ())]
        return torch.cat([_flat(rows) for rows in stacked], dim=-1)

    return encode


def _flat(rows: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    whole = rows if isinstance(rows, torch.Tensor) else torch.cat(list(rows))
    return whole.reshape(-1, whole.shape[-1])


def _named(tensors: Mapping[str, torch.Tensor], names: frozenset[str]) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name in names}


def _qwen2_audio(model: Any) -> Encoder:
    """What `Qwen2AudioModel.forward` does before it merges; it has no method for it."""
    tower, project = model.model.audio_tower, model.model.multi_modal_projector

    def encode(tensors: Tensors) -> torch.Tensor:
        features = tensors["input_features"]
        heard, kept = tower._get_feat_extract_output_lengths(tensors["feature_attention_mask"].sum(-1))
        columns = torch.arange((features.shape[-1] - 2) // 2 + 1, device=features.device)
        embeddings = torch.zeros((1, len(columns), 1), dtype=tower.dtype, device=features.device)
        heard_mask = (columns < heard[:, None]).long()
        mask = create_bidirectional_mask(config=tower.config, inputs_embeds=embeddings, attention_mask=heard_mask)
        encoded = tower(features.to(tower.dtype), attention_mask=mask).last_hidden_state
        rows: torch.Tensor = project(encoded)[0, : int(kept[0])]
        return rows

    return encode
