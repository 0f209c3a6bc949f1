"""How a record travels: in SGLang's own pointer, which its msgpack and pickle layers know by class name.

A pointer is one of three: *ready* (in the tokenizer: `mmplane_leases` has a lease for each message to come), *lent*
(the record of a lease is in its name), *viewed* (on a rank: `mmplane_view` is the rank's share of the lease). To SGLang
it looks like a pointer to a named segment whose name begins with `mmplane:`.
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
"""The name of an array that a tokenizer brings. Of an item that the sidecar has made it is the first."""

FIELDS = ("feature", "precomputed_embeddings")
"""Where SGLang's items keep what is sent through shared memory: one tensor, or a list of them."""

DEPTH_MAX = 4
"""Containers in containers, in what is specific to a model."""


def is_ours(value: object) -> bool:
    """Whether this is a pointer into an arena."""
    return isinstance(value, ShmPointerMMData) and value.shm_name.startswith(PREFIX)


def ready(leases: Leases, array: Any) -> ShmPointerMMData:
    """A pointer to a copy of this array that is about to be sent."""
    pointer = _pointer(PREFIX, array.shape, array.dtype)
    pointer.mmplane_leases = leases
    return pointer


def lent(pointer: ShmPointerMMData, leased: Leased) -> ShmPointerMMData:
    """The same array, for one message."""
    return _pointer(PREFIX + base64.b64encode(leased.encode()).decode(), pointer.shape, pointer.dtype)


def parse(name: str) -> Leased:
    """The record in a lent pointer's name. Raises ValueError."""
    return Leased.decode(base64.b64decode(name.removeprefix(PREFIX), validate=True))


def library(pointer: ShmPointerMMData) -> Any:
    """Whose array it stands for: torch's dtypes are not NumPy's."""
    return torch if isinstance(pointer.dtype, torch.dtype) else np


def replace(item: Any, change: Callable[[Any, str], Any]) -> None:
    """Put `change(array, place)` in the place of each array or pointer of an item.

    A place is `feature`, `feature.2`, or the name of something specific to the model, such as `images_crop`. Containers
    are not changed but replaced: SGLang's shallow copies of an item share them.
    """
    for field in FIELDS:
        setattr(item, field, changed(getattr(item, field), field, change))
    specific = item.model_specific_data
    if any(_may_hold_arrays(value) for value in specific.values()):
        item.model_specific_data = {name: changed(value, name, change) for name, value in specific.items()}


def values_of(item: Any) -> list[tuple[str, Any]]:
    """(place, array or pointer) of all in an item."""
    found: list[tuple[str, Any]] = []
    for name, value in [*((field, getattr(item, field)) for field in FIELDS), *item.model_specific_data.items()]:
        changed(value, name, lambda array, place: found.append((place, array)))
    return found


def changed(value: Any, place: str, change: Callable[[Any, str], Any], depth: int = 0) -> Any:
    """`value` with `change(array, place)` in the place of each array or pointer in it."""
    if isinstance(value, torch.Tensor | np.ndarray | ShmPointerMMData):
        return change(value, place)
    if depth == DEPTH_MAX or not _may_hold_arrays(value):
        return value
    if isinstance(value, dict):
        return {name: changed(one, f"{place}.{name}", change, depth + 1) for name, one in value.items()}
    return type(value)([changed(one, f"{place}.{at}", change, depth + 1) for at, one in enumerate(value)])


def _may_hold_arrays(value: Any) -> bool:
    """A list that begins with a number is one of numbers: it may be long."""
    if type(value) in (list, tuple):
        return bool(value) and not isinstance(value[0], int | float | str)
    return isinstance(value, torch.Tensor | np.ndarray | ShmPointerMMData) or type(value) is dict


def _pointer(name: str, shape: Any, dtype: Any) -> ShmPointerMMData:
    pointer = ShmPointerMMData.__new__(ShmPointerMMData)
    clear(pointer)
    pointer.shm_name, pointer.shape, pointer.dtype, pointer.precomputed_hash = name, shape, dtype, None
    return pointer


def clear(pointer: ShmPointerMMData) -> None:
    """What SGLang's methods expect to find."""
    pointer._shm_handle = None
    pointer.tensor = None
    pointer._materialization_error = None
