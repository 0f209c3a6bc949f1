"""The modules of a model: its language model, the encoder of each modality, and the arguments of its `forward`.

transformers names these parts in a few different ways. Only this file knows them, together with the models that cannot
be served and why. Everything that a checkpoint's files say is in `mmplane.features.facts`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING
from transformers.masking_utils import create_bidirectional_mask

from mmplane.core.records import Modality
from mmplane.features.checkpoint.heads import NAMES, check_heads
from mmplane.features.facts import MODALITIES

Tensors = dict[str, torch.Tensor]
Encoder = Callable[[Tensors], torch.Tensor]
"""Turns an item's tensors into rows [tokens, hidden]; with deepstack (Qwen3-VL) [tokens, (1 + layers) * hidden].

What deepstack adds to the hidden states after each of the first layers follows the embeddings, layer by layer.
"""
LANGUAGE = ("language_model", "text_model")
"""Names of the language model among a model's modules."""
WHOLE_RUNS = frozenset({"gemma3"})
"""Model types in which the tokens of an image attend to each other."""
STATES = frozenset({"conv", "mamba", "recurrent"})
"""Layers that keep a kind of state that is not built."""


class Unsupported(ValueError):
    """This server cannot reproduce the answers of the model's own forward pass."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of one model. `takes` are the argument names of its `forward`."""

    language: Any
    encoders: Mapping[Modality, Encoder]
    rope_index: Callable[..., Any] | None
    takes: frozenset[str]
    whole_runs: bool
    """Whether the tokens of an image attend to each other."""

    @classmethod
    def of(cls, model: Any) -> Anatomy:
        """Find them. Raises Unsupported unless the language model only attends to keys and values."""
        body = getattr(model, "model", model)
        holders = [*(getattr(body, name, None) for name in LANGUAGE), body]
        language = next((each for each in holders if each is not None and hasattr(each, "layers")), None)
        if language is None or not hasattr(model, "lm_head"):
            raise Unsupported("its language model is not where this server knows to look for it")
        if not language._supports_sdpa:
            raise Unsupported("its language model attends in a way that torch's attention does not have (soft caps)")
        settings = model.config.get_text_config()
        kept = STATES & set(getattr(settings, "layer_types", None) or ())
        if kept:
            raise Unsupported(f"its layers of {' and '.join(sorted(kept))} keep a state beside the KV cache: not built")
        if getattr(settings, "cross_attention_layers", None) and model.config.model_type != "mllama":
            raise Unsupported(
                "its language model attends to pictures by layers of their own (cross-attention): not built"
            )
        if model.config.model_type == "paligemma":
            raise Unsupported("each token of a prompt attends to those behind it as well (prefix LM): not built")
        if getattr(settings, "hidden_size_per_layer_input", 0):
            raise Unsupported("its layers take an embedding of each token of their own: not built")
        rope = getattr(body, "get_rope_index", None) or getattr(model, "get_rope_index", None)
        return cls(
            language, encoders_of(model), rope, parameters_of(model.forward), model.config.model_type in WHOLE_RUNS
        )


def undivided(config: Any) -> Any:
    """The same configuration, with vision and audio towers that are not split over ranks.

    Items are encoded out of step. transformers splits the towers of some models, whose collectives would be mixed up
    with those of other ranks' steps.
    """
    text = config.get_text_config()
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None and part is not text:
            part.base_model_tp_plan = None
            undivided(part)
    return config


def check_undivided(model: Any, language: Any) -> None:
    """Raise Unsupported if a rank has only a share of the encoder of items."""
    shared = {id(each) for each in (*language.parameters(), *model.lm_head.parameters())}
    names = [name for name, each in model.named_parameters() if id(each) not in shared and hasattr(each, "full_tensor")]
    if names:
        raise Unsupported(f"transformers splits {names[0]} over ranks, which encode items out of step: use --tp 1")


def check_ranks(config: Any, kind: Any, tp: int) -> None:
    """Raise ValueError if this number of ranks cannot share this model. `kind` is its class."""
    text = config.get_text_config()
    check_heads({name: getattr(text, name, None) for name in NAMES}, tp)
    if tp > 1 and not (getattr(text, "base_model_tp_plan", None) or getattr(kind, "_tp_plan", None)):
        raise ValueError("transformers has no plan to split it over ranks: use --tp 1")


def sharing(config: Any, numbers: Iterable[int]) -> Iterator[int]:
    """Those of these numbers of ranks that can share a model with this configuration."""
    for tp in numbers:
        with suppress(ValueError):
            check_ranks(config, MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)], tp)
            yield tp


def encoders_of(model: Any) -> dict[Modality, Encoder]:
    """The encoders of the model: its `get_image_features` and similar methods, or functions of this file."""
    found: dict[Modality, Encoder] = {}
    for modality in MODALITIES:
        # The body's own method names all its arguments; that of the whole model may only pass them on.
        for holder in (getattr(model, "model", None), model):
            if (method := getattr(holder, f"get_{modality}_features", None)) is not None:
                found.setdefault(modality, _by(method))
    if model.config.model_type == "mllama":
        found["image"] = _mllama(model.model)
    if model.config.model_type == "qwen2_audio":
        found["audio"] = _qwen2_audio(model)
    return found


def embed_indicators(model: Any) -> None:
    """Make the language model's embedding return the right rows for the tokens around Ovis2's pictures.

    The whole model takes them from the table that embeds pictures.
    """
    body = getattr(model, "model", model)
    tokens = getattr(model.config, "visual_indicator_token_ids", None)
    if not tokens:
        return
    last = body.visual_vocab_size
    rows = body.visual_embeddings_table(torch.arange(last - len(tokens), last, device=model.device)).detach()

    def replace(_: Any, given: tuple[torch.Tensor, ...], embeddings: torch.Tensor) -> torch.Tensor:
        for token, row in zip(tokens, rows, strict=True):
            embeddings = torch.where((given[0] == token)[..., None], row.to(embeddings), embeddings)
        return embeddings

    model.get_input_embeddings().register_forward_hook(replace)


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


def _mllama(body: Any) -> Encoder:
    """The first part of `MllamaModel.forward`, which has no method: rows [tiles * patches, hidden] of one image."""

    def encode(tensors: Tensors) -> torch.Tensor:
        rows: torch.Tensor = body.multi_modal_projector(body.vision_model(**tensors).last_hidden_state)
        return rows.reshape(-1, rows.shape[-1])

    return encode


def _qwen2_audio(model: Any) -> Encoder:
    """The part of `Qwen2AudioModel.forward` before it merges, which has no method."""
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
