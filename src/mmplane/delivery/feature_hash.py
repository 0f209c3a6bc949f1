"""The hash over an item's features that the incident's engine computes wherever it builds an item (analysis A1).

That engine uses it to name the item in the prefix cache. Here nothing reads it, since the content key is computed from
the media. It exists so that the baselines do the same work as the designs that the analyses describe.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import torch

from mmplane.core.plan import Work
from mmplane.delivery.delivery import Features

HASH_BYTES = 8


@dataclass(frozen=True)
class Hashed:
    """The hash of one item's features, and the time it took in this thread."""

    value: int
    took_ms: float
    cpu_ms: float


def hash_features(item: Features) -> Hashed:
    """Hash an item's features now."""
    began_s, began_cpu_s = time.perf_counter(), time.thread_time()
    value = feature_hash(item)
    cpu_ms = (time.thread_time() - began_cpu_s) * 1000
    return Hashed(value, (time.perf_counter() - began_s) * 1000, cpu_ms)


def feature_hash(item: Features) -> int:
    """The first 8 bytes of SHA-256 over the first tensor, big endian; the other tensors are sizes and masks.

    SGLang's `hash_feature` copies the tensor twice, and casts bfloat16, which NumPy does not have. This function does
    the same, because it stands for that call.
    """
    whole = torch.concat([next(iter(item.values())).flatten()])
    if whole.dtype == torch.bfloat16:
        whole = whole.float()
    return int.from_bytes(hashlib.sha256(whole.numpy().tobytes()).digest()[:HASH_BYTES], "big")


def with_hashes(work: Work, hashed: Sequence[Hashed]) -> Work:
    """`work` with these hashes added."""
    return msgspec.structs.replace(
        work,
        hashed=len(hashed),
        hash_ms=sum(each.took_ms for each in hashed),
        hash_cpu_ms=sum(each.cpu_ms for each in hashed),
    )
