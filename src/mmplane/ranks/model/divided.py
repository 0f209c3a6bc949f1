"""Layers that transformers has split over ranks, called directly with this rank's share.

transformers calls them through hooks that exchange a layer's parameters before and after each call, and looks tokens up
with DTensor. The computation here is the same, in the same order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard
from torch.nn import Embedding, Linear
from torch.nn.functional import embedding, linear
from transformers.distributed import tensor_parallel
from transformers.distributed.parallel_utils import replace_layer_number_by_wildcard


def call_directly(model: Any) -> None:
    """From now on, call these layers of the model directly. A model that is not split has none."""
    for name, layer in model.named_modules():
        if not isinstance(weight := getattr(layer, "weight", None), DTensor):
            continue
        style, own = model.tp_plan.get(replace_layer_number_by_wildcard(name)), local(weight)
        bias = local(getattr(layer, "bias", None))
        kind: type = type(layer)
        if kind is Linear and style == "colwise":
            layer.forward = partial(linear, weight=own, bias=bias)
        elif kind is Linear and style == "rowwise":
            layer.forward = partial(_summed, own, bias)
        elif kind is Embedding and weight.placements == (Shard(0),):
            rank = weight.device_mesh.get_local_rank()
            first = sum(widths(len(weight), weight.device_mesh.size())[:rank])
            layer.forward = partial(_looked_up, own, first)


def widths(length: int, ranks: int) -> tuple[int, ...]:
    """How torch splits this many rows over ranks: like `chunk`, with no rows for the remaining ranks."""
    parts = [len(part) for part in torch.empty(length, device="meta").chunk(ranks)]
    return (*parts, *[0] * (ranks - len(parts)))


def local(parameter: Any) -> Any:
    """This rank's part of a parameter; None if there is no parameter."""
    return parameter.to_local().detach() if isinstance(parameter, DTensor) else parameter


def _summed(weight: torch.Tensor, bias: torch.Tensor | None, hidden: torch.Tensor) -> torch.Tensor:
    """The layer's output from all ranks' parts of its input. A bias is added once."""
    output = linear(hidden, weight)
    tensor_parallel.dist.all_reduce(output)
    return output if bias is None else output + bias


def _looked_up(weight: torch.Tensor, first: int, ids: torch.Tensor) -> torch.Tensor:
    """The embeddings of token ids from all ranks' tables; this rank has the rows from `first` on."""
    own = ids - first
    elsewhere = (own < 0) | (own >= len(weight))
    rows = weight.new_zeros(*ids.shape, weight.shape[1])
    if len(weight):
        rows = embedding(own.masked_fill(elsewhere, 0), weight).masked_fill_(elsewhere[..., None], 0.0)
    tensor_parallel.dist.all_reduce(rows)
    return rows
