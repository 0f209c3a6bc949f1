"""Analysis A4: the cost of pickling the raw dict of a request, compared with the finished object that `leader` sends.

The finished object holds torch tensors, as in the incident, and is pickled like in the deliveries' collective. Pickle
is used here, and in the bench's peers, only to measure it; nothing is unpickled that this process did not make.
"""

from __future__ import annotations

import io
import pickle
import time
from statistics import median
from typing import Any

import msgspec
import torch

from mmplane.core.plan import Work
from mmplane.delivery.delivery import Delivered

ROUNDS = 5


class Size(msgspec.Struct, frozen=True):
    """Bytes of an item's file and of its features."""

    media_bytes: int
    features_bytes: int


SIZES = {"image": Size(230_000, 18_816_000), "video": Size(1_700_000, 90_015_744)}
"""A photograph of the workload `photo` and a clip of `video-2mb`, with the features that the built-in model takes."""


def pickled(sizes: dict[str, Size] = SIZES) -> dict[str, Any]:
    """Bytes and milliseconds (medians) of both forms of each item; those of the image also by themselves."""
    found = {kind: _forms(kind, size) for kind, size in sizes.items()}
    return found | found["image"]


def _forms(kind: str, size: Size) -> dict[str, Any]:
    raw = {"mm_items": [{"modality": kind, "data": bytes(size.media_bytes)}], "input_ids": list(range(1000))}
    features = {"pixel_values": torch.rand(size.features_bytes // 4), "grid_thw": torch.tensor([[1, 50, 80]])}
    finished = Delivered((features,), work=Work(1, 100.0), hashes=(1 << 60,))
    return {"raw": _measured(raw), "finished": _measured(finished)}


def _measured(value: Any) -> dict[str, Any]:
    dumps_ms, loads_ms, length_bytes = [], [], 0
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        buffer = io.BytesIO()
        pickle.Pickler(buffer).dump(value)
        dumped_s = time.perf_counter()
        pickle.loads(buffer.getbuffer())  # noqa: S301 - our own bytes, to be measured
        loads_ms.append((time.perf_counter() - dumped_s) * 1000)
        dumps_ms.append((dumped_s - began_s) * 1000)
        length_bytes = len(buffer.getbuffer())
    return {"bytes": length_bytes, "dumps_ms": median(dumps_ms), "loads_ms": median(loads_ms)}
