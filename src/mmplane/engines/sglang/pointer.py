"""Records travel in SGLang's own pointers, which its msgpack and pickle layers recognise by class name.

A pointer is in one of three states: *ready* (in the tokenizer; `mmplane_leases` has a lease for each message to come),
*lent* (its name contains the record of a lease), *viewed* (on a rank; `mmplane_view` is the rank's share of the
lease). For SGLang it looks like a pointer to a named segment whose name starts with `mmplane:`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sglang.srt.managers.mm_utils import ShmPointerMMData

from mmplane.embed.records import Leased
from mmplane.engines.kit.leases import Leases

PREFIX = "mmplane:"
ARRAY = "0"
"""The name of an array that a tokenizer writes. For an item that the sidecar made, it is the first array."""

FIELDS = ("feature", "precomputed_embeddings")
"""Fields of SGLang's items that are sent through shared memory: one tensor, or a list of them."""

DEPTH_MAX = 4
"""Maximum nesting of containers in model-specific values."""


def is_ours(value: object) -> bool:
    """Whether this is a pointer into an arena."""
    return isinstance(value, ShmPointerMMData) and value.shm_name.startswith(PREFIX)


def ready(leases: Leases, array: Any) -> ShmPointerMMData:
    """Return a pointer to a copy of this array that is about to be sent."""
    pointer = _pointer(PREFIX, array.shape, array.dtype)
    pointer.mmplane_leases = leases
    return pointer


def lent(pointer: ShmPointerMMData, leased: Leased) -> ShmPointerMMData:
    """Return a pointer to the same array, for one message."""
    return _pointer(PREFIX + base64.b64encode(leased.encode()).decode(), pointer.shape, pointer.dtype)


def parse(name: str) -> Leased:
    """Return the record in a lent pointer's name. Raises ValueError."""
    return Leased.decode(base64.b64decode(name.removeprefix(PREFIX), validate=True))


def library(pointer: ShmPointerMMData) -> Any:
    """The library of its array, because torch's dtypes are not NumPy's."""
    return torch if isinstance(pointer.dtype, torch.dtype) else np


def replace(item: Any, change: Callable[[Any, str], Any]) -> None:
    """Replace each array or pointer of an item by `change(array, place)`.

    A place is `feature`, `feature.2`, or a model-specific name such as `images_crop`. Containers are not changed but
    replaced, because SGLang's shallow copies of an item share them.
    """
    for field in FIELDS:
        setattr(item, field, changed(getattr(item, field), field, change))
    specific = item.model_specific_data
    if any(_may_hold_arrays(value) for value in specific.values()):
        item.model_specific_data = {name: changed(value, name, change) for name, value in specific.items()}


def values_of(item: Any) -> list[tuple[str, Any]]:
    """Yield (place, array or pointer) for all in an item."""
    found: list[tuple[str, Any]] = []
    for name, value in [*((field, getattr(item, field)) for field in FIELDS), *item.model_specific_data.items()]:
        changed(value, name, lambda array, place: found.append((place, array)))
    return found


def changed(value: Any, place: str, change: Callable[[Any, str], Any], depth: int = 0) -> Any:
    """Return `value` with each array or pointer in it replaced by `change(array, place)`."""
    if isinstance(value, torch.Tensor | np.ndarray | ShmPointerMMData):
        return change(value, place)
    if depth == DEPTH_MAX or not _may_hold_arrays(value):
        return value
    if isinstance(value, dict):
        return {name: changed(one, f"{place}.{name}", change, depth + 1) for name, one in value.items()}
    return type(value)([changed(one, f"{place}.{at}", change, depth + 1) for at, one in enumerate(value)])


def _may_hold_arrays(value: Any) -> bool:
    """A list that starts with a number is treated as a list of numbers, because it may be long."""
    if type(value) in (list, tuple):
        return bool(value) and not isinstance(value[0], int | float | str)
    return isinstance(value, torch.Tensor | np.ndarray | ShmPointerMMData) or type(value) is dict


def _pointer(name: str, shape: Any, dtype: Any) -> ShmPointerMMData:
    pointer = ShmPointerMMData.__new__(ShmPointerMMData)
    clear(pointer)
    pointer.shm_name, pointer.shape, pointer.dtype, pointer.precomputed_hash = name, shape, dtype, None
    return pointer


def clear(pointer: ShmPointerMMData) -> None:
    """Attributes that SGLang's methods expect."""
    pointer._shm_handle = None
    pointer.tensor = None
    pointer._materialization_error = None
