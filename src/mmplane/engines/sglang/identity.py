"""An item's identity: a digest over everything that the model sees of it, computed once, in the tokenizer process.

SGLang's own hash only covers the bytes of the features. White images of 560x280, 280x560 and 140x1120 pixels have the
same bytes and even the same shape; only the grid beside them differs. Values that depend on the prompt are left out
(EVS models keep the prompt's ids in the item), because the same clip must be the same item in the next turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import torch
from sglang.srt.environ import envs
from sglang.srt.managers.schedule_batch import MultimodalInputFormat
from sglang.srt.utils.msgpack_utils import enc_hook

from mmplane.arena.arrays import digestible, dtype_name
from mmplane.core.keys import KEY_BYTES, digest_parts
from mmplane.engines.sglang.made import made_of
from mmplane.engines.sglang.pointer import FIELDS, changed, values_of
from mmplane.engines.sglang.versions import identity_of, set_identity

_VERSION = b"mmplane-sglang-2"

Key = Callable[[Any, str], bytes]
"""The content key of an array, given its place in the item."""

SHAPES = frozenset(
    (
        *("image_grid_thw", "video_grid_thw", "image_grid_hws", "grid_thws", "grid_thw", "thw_grids"),
        *("image_sizes", "tgt_size", "tgt_sizes", "spatial_shapes", "spatial_shapes_videos", "n_vit_h", "n_vit_w"),
        *("images_spatial_crop", "num_patches", "block_sizes", "aspect_ratio_ids", "aspect_ratio_mask"),
        *("image_position_ids", "video_position_ids", "frames_per_video", "second_per_grid_ts"),
        *("audio_feature_lens", "audio_length", "audio_num_clips", "num_tokens", "is_dynamic"),
        *("image_attention_mask", "image_emb_mask", "pixel_attention_mask", "pixel_attention_mask_videos"),
        *("audio_attention_mask", "feature_attention_mask", "input_features_mask", "has_images", "has_local_crops"),
    )
)
"""Model-specific values that describe the layout of features: SGLang's names in 0.5.23, of all its processors."""
FEATURES = frozenset(("images_crop", "patch_pixel_values"))
"""Features beside the main feature: DeepSeek-OCR, Step3."""


def is_local(item: Any) -> bool:
    """Whether the features of an item are arrays in this process's memory."""
    features = [array for place, array in values_of(item) if is_feature(place)]
    return bool(features) and not any(isinstance(one, torch.Tensor) and not one.is_cpu for one in features)


def is_feature(place: str) -> bool:
    """Whether SGLang itself sends the value at this place of an item through shared memory."""
    return place.partition(".")[0] in FIELDS


def identity(item: Any, key: Key) -> bytes:
    """32 bytes over modality, features, their dtypes and shapes, and the values that describe their layout.

    Raises TypeError if the item contains something that SGLang could not send either.
    """
    parts = [_VERSION, item.modality.name.encode()]
    for field in FIELDS:
        parts += _parts(field, getattr(item, field), key)
    for name in sorted((SHAPES | FEATURES) & item.model_specific_data.keys()):
        parts += _parts(name, item.model_specific_data[name], key)
    return digest_parts(parts)


def name(item: Any, *, trusted: bool = False) -> Key:
    """Return the names of an item's arrays in the arena. The item gets its identity, unless it already has a name.

    `trusted`: its hash was computed by SGLang, not given by the caller. Together with shapes, dtypes and grids it then
    stands for the features, so nothing is digested twice.
    """
    known: dict[str, bytes] = {}

    def key(array: Any, place: str) -> bytes:
        if place not in known:
            known[place] = _array_key(array)
        return known[place]

    features = [(place, array) for place, array in values_of(item) if is_feature(place)]
    given = _given(item)
    if envs.SGLANG_MM_SKIP_COMPUTE_HASH.get():
        known.update((place, os.urandom(KEY_BYTES)) for place, _ in features)
    elif given is not None and trusted and item.format == MultimodalInputFormat.NORMAL:
        outline = list(_outline(item, key))
        known.update((place, digest_parts([_VERSION, given, place.encode(), *outline])) for place, _ in features)
    elif given is None and item.pad_value is None:
        set_identity(item, identity(item, key))
    return key


def _given(item: Any) -> bytes | None:
    """The name that somebody has given to the item."""
    whole = identity_of(item)
    return item.hash.to_bytes(8, "big") if whole is None and item.hash is not None else whole


def _array_key(array: Any) -> bytes:
    """The content key of an array, in any item. For an array that the sidecar made, it is derived from its file."""
    if (made := made_of(array)) is not None:
        return digest_parts([_VERSION, made.hold.key])
    return digest_parts([_VERSION, dtype_name(array).encode(), repr(tuple(array.shape)).encode(), digestible(array)])


def _outline(item: Any, key: Key) -> Iterator[bytes]:
    """The layout of the features, without their bytes."""
    yield item.modality.name.encode()
    for place, array in values_of(item):
        if is_feature(place):
            yield f"{place} {dtype_name(array)} {tuple(array.shape)}".encode()
    for name in sorted(SHAPES & item.model_specific_data.keys()):
        yield from _parts(name, item.model_specific_data[name], key)


def _parts(name: str, value: Any, key: Key) -> list[bytes]:
    """Yield a value with places instead of its arrays, and then the key of each array."""
    keys: list[bytes] = []

    def described(array: Any, place: str) -> str:
        keys.append(key(array, place))
        return place

    outline = msgspec.msgpack.encode([name, changed(value, name, described)], enc_hook=enc_hook)
    return [outline, *keys]
