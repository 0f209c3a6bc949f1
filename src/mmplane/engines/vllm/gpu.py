"""In a worker with a GPU: features are copied to it from the arena, and stay there until that is done.

vLLM makes a pinned copy of data before it copies it to the GPU, unless PyTorch reports that it is already pinned,
which is the case for registered memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmplane.engines.kit.device import arrays_in, current


def drain() -> None:
    """Release what has been copied, in each step of the worker."""
    gpu = current()
    if gpu is not None:
        gpu.drain()


def copy(original: Callable[..., Any], tensors: Any, device: Any, *args: Any, **kwargs: Any) -> Any:
    """Wraps `_nested_tensors_h2d`, which starts the copies of one field on the current stream."""
    moved = original(tensors, device, *args, **kwargs)
    gpu = current()
    if gpu is not None:
        gpu.keep(arrays_in(tensors))
    return moved
