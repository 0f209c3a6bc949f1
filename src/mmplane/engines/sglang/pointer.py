"""How a record travels: in SGLang's own pointer, which its msgpack and pickle layers know by class name.

A pointer is one of three: *held* (in the tokenizer, before it is sent: `mmplane_hold` keeps the item), *lent* (the
record of a lease is in its name), *viewed* (on a rank: `mmplane_view` is the rank's share of the lease). To SGLang it
looks like a pointer to a named segment whose name begins with `mmplane:`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import torch
from sglang.srt.managers.mm_utils import ShmPointerMMData

from mmplane.embed.hold import Hold
from mmplane.embed.records import Leased

PREFIX = "mmplane:"
ARRAY = "0"
"""The name of an item's one array."""

FIELDS = ("feature", "precomputed_embeddings")
"""Where SGLang's items keep what is sent through shared memory: one tensor, or a list of them."""


def is_ours(value: object) -> bool:
    """Whether this is a pointer into an arena."""
    return isinstance(value, ShmPointerMMData) and value.shm_name.startswith(PREFIX)


def held(hold: Hold, feature: torch.Tensor) -> ShmPointerMMData:
    """A pointer that keeps the item and knows no lease yet."""
    pointer = _pointer(PREFIX, feature.shape, feature.dtype)
    pointer.mmplane_hold = hold
    return pointer


def lent(pointer: ShmPointerMMData, plane: int, leased: Leased) -> ShmPointerMMData:
    """The same item, for one message. It can be sent again, with another lease."""
    name = f"{PREFIX}{plane}:{base64.b64encode(leased.encode()).decode()}"
    made = _pointer(name, pointer.shape, pointer.dtype)
    made.mmplane_hold = pointer.mmplane_hold
    return made


def parse(name: str) -> tuple[int, Leased]:
    """Plane and record of a lent pointer's name. Raises ValueError."""
    plane, _, record = name.removeprefix(PREFIX).partition(":")
    return int(plane), Leased.decode(base64.b64decode(record, validate=True))


def replace(item: Any, change: Callable[[Any, str], Any]) -> None:
    """Put `change(feature, place)` in the place of each feature of an item; a place is `feature` or `feature.2`."""
    for field in FIELDS:
        value = getattr(item, field)
        if isinstance(value, list | tuple):
            value = type(value)([change(one, f"{field}.{at}") for at, one in enumerate(value)])
        elif value is not None:
            value = change(value, field)
        setattr(item, field, value)


def values_of(item: Any) -> Iterator[Any]:
    """All that an item may send through shared memory."""
    for field in FIELDS:
        value = getattr(item, field)
        if isinstance(value, list | tuple):
            yield from value
        elif value is not None:
            yield value


def _pointer(name: str, shape: torch.Size, dtype: torch.dtype) -> ShmPointerMMData:
    pointer = ShmPointerMMData.__new__(ShmPointerMMData)
    clear(pointer)
    pointer.shm_name, pointer.shape, pointer.dtype, pointer.precomputed_hash = name, shape, dtype, None
    return pointer


def clear(pointer: ShmPointerMMData) -> None:
    """What SGLang's methods expect to find."""
    pointer._shm_handle = None
    pointer.tensor = None
    pointer._materialization_error = None
