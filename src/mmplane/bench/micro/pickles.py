"""Analysis A4: what the raw dict of a request costs to pickle, against the finished object with its features.

Pickle is here, and in the bench's peers, to be measured; nothing is unpickled that this process did not make.
"""

from __future__ import annotations

import pickle
import time
from statistics import median
from typing import Any

import numpy as np

ROUNDS = 9


def pickled(media: bytes, features_bytes: int) -> dict[str, Any]:
    """Bytes and milliseconds (medians) of both forms of one item."""
    raw = {"mm_items": [{"modality": "image", "data": media}], "input_ids": list(range(1000))}
    features = np.random.default_rng(0).random(features_bytes // 4, np.float32)
    finished = raw | {"mm_items": [{"modality": "image", "feature": features, "hash": 1 << 60, "pad_value": 1 << 20}]}
    return {"raw": _measured(raw), "finished": _measured(finished)}


def _measured(value: Any) -> dict[str, Any]:
    dumps_ms, loads_ms, content = [], [], b""
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        content = pickle.dumps(value, protocol=5)
        dumped_s = time.perf_counter()
        pickle.loads(content)  # noqa: S301 - our own bytes, to be measured
        dumps_ms.append((dumped_s - began_s) * 1000)
        loads_ms.append((time.perf_counter() - dumped_s) * 1000)
    return {"bytes": len(content), "dumps_ms": median(dumps_ms), "loads_ms": median(loads_ms)}
