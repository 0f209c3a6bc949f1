"""An item's identity: the whole digest over all that the model sees of it, made once, in the tokenizer process.

SGLang's own hash covers the bytes of the features alone. White images of 560x280, 280x560 and 140x1120 pixels have
the same bytes, and even the same shape; what tells them apart is the grid beside them.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from sglang.srt.utils.msgpack_utils import enc_hook

from mmplane.arena.arrays import digestible, dtype_name
from mmplane.core.keys import digest_parts
from mmplane.engines.sglang.pointer import FIELDS

_VERSION = b"mmplane-sglang-1"


def is_covered(item: Any) -> bool:
    """Whether all features of an item are arrays in this process's memory."""
    return any(getattr(item, field) is not None for field in FIELDS) and all(
        _is_local(one) for field in FIELDS for one in _each(getattr(item, field))
    )


def identity(item: Any) -> bytes:
    """32 bytes over modality, features and everything model-specific, dtypes and shapes included.

    Raises TypeError when the item holds what SGLang could not send either.
    """
    parts: list[bytes | memoryview] = [_VERSION, item.modality.name.encode()]
    for field in FIELDS:
        for one in _each(getattr(item, field)):
            parts += [field.encode(), dtype_name(one).encode(), repr(tuple(one.shape)).encode()]
            parts.append(digestible(one))
    parts.append(msgspec.msgpack.encode(sorted(item.model_specific_data.items()), enc_hook=enc_hook))
    return digest_parts(parts)


def slot_key(whole: bytes, place: str) -> bytes:
    """The content key of the array at this place in an item that has this identity."""
    return digest_parts([_VERSION, whole, place.encode()])


def _each(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_local(value: object) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, torch.Tensor) and value.is_cpu)
