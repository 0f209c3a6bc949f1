"""The model's own parameters in a forward pass made for training: stacked pictures, bfloat16, no cache.

It gives what transformers' modules give (a test compares), several times faster on a CPU: window attention becomes a
mask over whole pictures, a still picture's patches are embedded once and not twice, right padding needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from mmplane.models.tiny import tiny_config
from training.pictures import NO_SYMBOL
from training.samples import IGNORED, Batch, Group

SYMBOL_CLASSES = NO_SYMBOL + 1
_NO_SYMBOL_WEIGHT = 0.1


class Reader(nn.Module):
    """The model, and beside it a head for training only that makes each visual token name the symbols in it."""

    def __init__(self) -> None:
        super().__init__()
        config = tiny_config()
        self.model = Qwen2_5_VLForConditionalGeneration(config).float()
        self.symbols = nn.Linear(config.vision_config.out_hidden_size, 2 * SYMBOL_CLASSES)

    def forward(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Logits (requests, length, vocabulary) and, for each group, symbol logits (pictures, tokens, 2, classes)."""
        features = [self.features(group) for group in batch.groups]
        return self.answer_logits(batch, features), self.named(features)

    def named(self, features: list[Tensor]) -> list[Tensor]:
        """What the second head makes of features: for each group (pictures, tokens, 2, classes)."""
        return [self.symbols(each).unflatten(-1, (2, SYMBOL_CLASSES)) for each in features]

    def features(self, group: Group) -> Tensor:
        """What the vision tower makes of the pictures of a group: (pictures, tokens, width)."""
        visual = self.model.model.visual
        kernel = visual.patch_embed.proj.weight
        still = group.patches.shape[-1] == kernel[0, :, 0].numel()
        weight = kernel.sum(2) if still else kernel
        hidden = functional.linear(group.patches, weight.flatten(1)).float()
        angles, same_window, same_step = _layout(group.grid)
        for index, block in enumerate(visual.blocks):
            mask = same_step if index in visual.fullatt_block_indexes else same_window
            hidden = _vision_block(block, hidden, angles, mask)
        count, patches, width = hidden.shape
        return visual.merger.mlp(_normed(visual.merger.ln_q, hidden).view(count, patches // 4, 4 * width))

    def answer_logits(self, batch: Batch, features: list[Tensor]) -> Tensor:
        """The language model's logits at every position: (requests, length, vocabulary)."""
        text = self.model.model.language_model
        hidden = text.embed_tokens(batch.ids)
        config = self.model.config
        visual = (batch.ids == config.image_token_id) | (batch.ids == config.video_token_id)
        flat = torch.cat([each.reshape(-1, each.shape[-1]) for each in features])
        hidden = hidden.masked_scatter(visual[:, :, None], flat[batch.feature_index].to(hidden.dtype))
        cos, sin = text.rotary_emb(hidden, batch.positions)
        for layer in text.layers:
            hidden = _text_layer(layer, hidden, (cos[:, None], sin[:, None]))
        return self.model.lm_head(_normed(text.norm, hidden))


def losses(logits: Tensor, symbols: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss on the answers' tokens and the loss on the symbols."""
    answer = functional.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
    return answer, symbol_loss(symbols, batch)


def symbol_loss(symbols: list[Tensor], batch: Batch) -> Tensor:
    """The loss on the symbols alone."""
    weight = torch.ones(SYMBOL_CLASSES)
    weight[NO_SYMBOL] = _NO_SYMBOL_WEIGHT
    named = torch.cat([each.float().reshape(-1, SYMBOL_CLASSES) for each in symbols])
    right = torch.cat([group.symbols.flatten() for group in batch.groups])
    return functional.cross_entropy(named, right, weight=weight)


def exact(logits: Tensor, labels: Tensor) -> Tensor:
    """Which requests greedy decoding answers exactly: those in which each token of the answer is the likeliest."""
    return ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(1)


@lru_cache(maxsize=256)
def _layout(grid: tuple[int, int, int]) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor | None]:
    """Rotary cosines and sines of a grid's patches, and who attends to whom: in the same window, in the same step."""
    config: Qwen2_5_VLConfig = tiny_config()
    vision = config.vision_config
    merge = vision.spatial_merge_size
    places = get_vision_position_ids(torch.tensor([grid]), merge)
    width = vision.hidden_size // vision.num_heads // 2
    speeds = 1.0 / (10000.0 ** (torch.arange(0, width, 2, dtype=torch.float) / width))
    angles = (places[:, :, None] * speeds).flatten(1).repeat(1, 2)
    order, edges = get_vision_window_index(torch.tensor([grid]), merge, vision.window_size, vision.patch_size)
    window_of = torch.bucketize(torch.arange(len(order)) * merge**2, edges, right=True)
    windows = torch.empty_like(order)
    windows[order] = window_of
    windows = windows.repeat_interleave(merge**2)
    steps = torch.arange(grid[0]).repeat_interleave(grid[1] * grid[2])
    same_step = steps[:, None] == steps if grid[0] > 1 else None
    return (angles.cos(), angles.sin()), windows[:, None] == windows, same_step


def _vision_block(block: Any, hidden: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    hidden = hidden + _vision_attention(block.attn, _normed(block.norm1, hidden), angles, mask)
    return hidden + _gated(block.mlp, _normed(block.norm2, hidden))


def _text_layer(layer: Any, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    hidden = hidden + _text_attention(layer.self_attn, _normed(layer.input_layernorm, hidden), angles)
    return hidden + _gated(layer.mlp, _normed(layer.post_attention_layernorm, hidden))


def _normed(layer: Any, hidden: Tensor) -> Tensor:
    """The norm, in the type in which products are computed: cast once, not by every product that takes it."""
    normed = functional.rms_norm(hidden, hidden.shape[-1:], layer.weight, layer.variance_epsilon)
    return normed.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else normed


def _joined(layers: Sequence[Any], hidden: Tensor) -> Tensor:
    """Several linear layers of one input as one product."""
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return functional.linear(hidden, torch.cat([layer.weight for layer in layers]), bias)


def _gated(layer: Any, hidden: Tensor) -> Tensor:
    gate, up = _joined((layer.gate_proj, layer.up_proj), hidden).chunk(2, -1)
    return layer.down_proj(functional.silu(gate) * up)


def _rotated(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = values.chunk(2, -1)
    return values * cos + torch.cat((-second, first), -1) * sin


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in plain matrix products: for so few tokens their backward pass is far faster than the fused one's."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(value.dtype) @ value


def _vision_attention(layer: Any, hidden: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    count, patches, width = hidden.shape
    query, key, value = layer.qkv(hidden).view(count, patches, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    cos, sin = (each.to(query.dtype) for each in angles)
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    mixed = _attention(query, key, value, mask)
    return layer.proj(mixed.transpose(1, 2).reshape(count, patches, width))


def _text_attention(layer: Any, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    count, length, width = hidden.shape
    joined = _joined((layer.q_proj, layer.k_proj, layer.v_proj), hidden)
    query, key, value = joined.view(count, length, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    cos, sin = (each.to(query.dtype) for each in angles)
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    mixed = _attention(query, key, value, torch.ones(length, length, dtype=torch.bool).tril())
    return layer.o_proj(mixed.transpose(1, 2).reshape(count, length, width))
