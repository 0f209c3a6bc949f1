"""On a rank with a GPU: features are copied to it from the arena, and stay there until that is done.

`embed_mm_inputs` starts all of these copies. SGLang then copies features back to the host for a later prefill.
Instead, an item gets its array in the arena back, which costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmplane.arena.segment import Access
from mmplane.embed.windows import Register
from mmplane.engines.kit import device

BUFFER_VARIABLE = "SGLANG_MM_BUFFER_SIZE_MB"
"""With this variable SGLang copies features to a buffer on the GPU and back as soon as they arrive."""


def begin(torch: Any) -> Access | Register:
    """How this rank's inbox maps the regions, once SGLang has chosen its GPU. Raises ValueError."""
    if os.environ.get(BUFFER_VARIABLE, "0").strip() not in ("", "0"):
        return "private"
    return device.begin(torch)


def drain() -> None:
    """Release what has been copied, in each round of the scheduler."""
    gpu = device.current()
    if gpu is not None:
        gpu.drain()


def embed(original: Callable[..., Any], mm_inputs_list: Any, *args: Any, **kwargs: Any) -> Any:
    """Wraps `embed_mm_inputs`. The encoder runs on the stream that is current here."""
    gpu = device.current()
    if gpu is None:
        return original(mm_inputs_list, *args, **kwargs)
    items = [item for inputs in mm_inputs_list or () for item in inputs.mm_items if item is not None]
    features = [item.feature for item in items]
    arrays = list(_arrays(items))
    try:
        return original(mm_inputs_list, *args, **kwargs)
    finally:
        gpu.keep(arrays)
        for item, feature in zip(items, features, strict=True):
            if item.feature is not None and gpu.holds(feature):
                item.feature = feature


def materialize(original: Callable[..., Any], features: Any, *, device: Any, dtype: Any) -> Any:
    """Wraps `materialize_multimodal_features`, which converts features to the model's dtype.

    Between different kinds of memory, PyTorch converts on the CPU before it copies. Converted on the GPU, the features
    have the same bits.
    """
    return original([_moved(feature, device, dtype) for feature in features], device=device, dtype=dtype)


def _moved(feature: Any, where: Any, dtype: Any) -> Any:
    gpu = device.current()
    if gpu is None or not gpu.holds(feature) or feature.dtype == dtype:
        return feature
    return feature.to(where, non_blocking=True)


def _arrays(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        yield from device.arrays_in([item.feature, item.precomputed_embeddings, item.model_specific_data])
