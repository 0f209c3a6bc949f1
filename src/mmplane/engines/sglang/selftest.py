"""The self-test: sends a record through this SGLang's messages, msgpack to the first process and pickle to the ranks.

It runs before anything is wrapped, and in `mmplane doctor --sglang`. Only the doctor checks what a rank does with a
record, because that needs an arena.
"""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import numpy as np
import torch
from sglang.srt.managers.mm_utils import ShmPointerMMData
from sglang.srt.utils.msgpack_utils import enc_hook, ext_hook

NAME = "mmplane:" + "A+/=" * 64
STATES = (
    {"shm_name": NAME, "shape": torch.Size((3, 4)), "dtype": torch.bfloat16, "precomputed_hash": None},
    {"shm_name": NAME, "shape": (2,), "dtype": np.dtype("float32"), "precomputed_hash": None},
)


def self_test() -> str | None:
    """Return a problem, or None. May raise: then SGLang cannot send mmplane's records."""
    features = [pointer_of(state) for state in STATES]
    message = {"feature": features[0], "crops": [features[1]]}
    passed = msgspec.msgpack.decode(msgspec.msgpack.encode(message, enc_hook=enc_hook), ext_hook=ext_hook)
    arrived = pickle.loads(pickle.dumps(passed))  # noqa: S301 - what was pickled here
    for state, pointer in zip(STATES, (arrived["feature"], arrived["crops"][0]), strict=True):
        if not isinstance(pointer, ShmPointerMMData):
            return f"a pointer to features arrives as {type(pointer).__name__}"
        got = {name: getattr(pointer, name, None) for name in state}
        if got != state:
            return f"{state} arrives as {got}"
    return None


def pointer_of(state: dict[str, Any]) -> ShmPointerMMData:
    """A pointer to features with this state."""
    pointer = ShmPointerMMData.__new__(ShmPointerMMData)
    for name, value in {**state, "_shm_handle": None, "tensor": None, "_materialization_error": None}.items():
        setattr(pointer, name, value)
    return pointer
