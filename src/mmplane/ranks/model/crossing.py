"""Cross-attention (Llama 3.2 Vision): some layers attend to images, whose rows are not part of the prompt.

A mask of [tokens, images, tiles], as transformers' processor makes it, determines which images a token sees. Keys and
values of a request's images are computed once, with its first segment, and serve all its samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache
from transformers.models.mllama.modeling_mllama import _prepare_cross_attention_mask
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from mmplane.core.errors import unsupported
from mmplane.delivery.delivery import Features
from mmplane.ranks.model.attention import NAME
from mmplane.ranks.model.segmented import Segmented
from mmplane.ranks.model.states import bytes_of
from mmplane.ranks.plan.step import Segment

LAYER = "cross_attn"
"""The name of the attention to images among the modules of a decoder layer."""
TILES = "aspect_ratio_mask"
"""The tensor of an image that states which tiles count."""


@dataclass(frozen=True)
class Images:
    """The images of one request.

    Rows [images * tiles * patches, hidden], the mask, bool [tokens, images, tiles], and their keys and values in
    `cache` once they are computed.
    """

    rows: torch.Tensor
    mask: torch.Tensor
    cache: DynamicCache

    def mask_of(self, segment: Segment) -> torch.Tensor:
        """Int64 [1, tokens of the segment, images, tiles]. Tokens of an answer see what the prompt's last one sees."""
        positions = torch.arange(segment.start, segment.start + segment.count).clamp(max=len(self.mask) - 1)
        return self.mask[positions][None].long()


class Crossing:
    """What the requests' tokens see, for a model with such layers."""

    def __init__(self, model: Any, language: Any) -> None:
        layers = [layer for layer in language.layers if hasattr(layer, LAYER)]
        self._layers = Segmented(language.config, layers, self._run)
        self._language = language
        if layers:
            self._patches, self._tiles = model.model.vision_model.num_patches, model.model.max_num_tiles
            self._token = model.config.image_token_index
        self._of: dict[int, Images] = {}

    @property
    def present(self) -> bool:
        """Whether the model has such layers."""
        return self._layers.count > 0

    def add(
        self, request_id: int, ids: torch.Tensor, rows: Sequence[torch.Tensor], features: Sequence[Features]
    ) -> None:
        """Add a request: its token ids, and for each image rows [tiles * patches, hidden] and their source tensors.

        Raises RequestError (422) for embeddings made by a client, because their number of tiles is unknown.
        """
        if not rows:
            return
        if not all(TILES in tensors for tensors in features):
            raise unsupported("this model takes no embeddings")
        tiles = [[int(tensors[TILES].sum()) for tensors in features]]
        seen = get_cross_attention_token_mask(ids.tolist(), self._token)
        mask = convert_sparse_cross_attention_mask_to_dense([seen], tiles, self._tiles, len(ids))[0]
        cache = DynamicCache(config=self._language.config)
        self._of[request_id] = Images(torch.cat(list(rows)), torch.from_numpy(mask.astype(bool)), cache)

    def begin(self, segments: tuple[Segment, ...]) -> dict[str, Any]:
        """Call before a forward pass over these segments. Returns additional arguments for the language model."""
        self._layers.segments = segments
        seen = [self._of[segment.sequence[0]] for segment in segments if segment.sequence[0] in self._of]
        return {"cross_attention_states": seen[0].rows} if seen else {}  # without it, the model leaves these layers out

    def drop(self, requests: Iterable[int]) -> None:
        """Forget these requests, which have ended."""
        for request_id in requests:
            self._of.pop(request_id, None)

    @property
    def bytes_each(self) -> int:
        """The size of what an image's rows, keys and values take, as far as any have been computed here."""
        rows_each = self._tiles * self._patches if self.present else 1
        sizes = [(each.rows.nbytes + bytes_of(each.cache)) * rows_each // len(each.rows) for each in self._of.values()]
        return max(sizes, default=0)

    def _run(
        self, plain: partial[torch.Tensor], hidden: torch.Tensor, segment: Segment, options: dict[str, Any]
    ) -> torch.Tensor:
        if (images := self._of.get(segment.sequence[0])) is None:
            return hidden
        layer = plain.args[0].layer_idx
        known = images.cache.layers[layer].get_seq_length() > 0
        mask, whole = _prepare_cross_attention_mask(
            images.mask_of(segment).to(hidden.device), num_vision_tokens=self._patches, dtype=hidden.dtype
        )
        given = {
            "cross_attention_states": None if known else images.rows[None],
            "cross_attention_mask": mask,
            "full_text_row_masked_out_mask": whole,
            "cache": images.cache,
        }
        self._language.config._attn_implementation = "sdpa"
        try:
            return plain(hidden, **options | given)
        finally:
            self._language.config._attn_implementation = NAME
