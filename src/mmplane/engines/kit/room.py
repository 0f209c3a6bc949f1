"""How much memory features get where the operator does not say, and how many pictures that is."""

from __future__ import annotations

from mmplane.arena.memory import memory_available_bytes
from mmplane.engines.kit.settings import number

SHARE, BYTES_MAX = 4, 16 * 2**30
"""By default features get one part in so many of the memory that is available, and at most so much."""

PICTURE_PATCHES = (1288 // 14) * (966 // 14)
PATCH_VALUES = 1176
"""Of a picture of 1288x966 in the Qwen family: as float32 29.9 MB."""


def arena_bytes(variable: str) -> int:
    """What the variable says, or the default. Raises ValueError when it is no number or more than is available."""
    available_bytes = memory_available_bytes()
    wanted_bytes = number(variable, min(available_bytes // SHARE, BYTES_MAX))
    if wanted_bytes > available_bytes:
        raise ValueError(f"{variable}: {wanted_bytes >> 20} MiB wanted, {available_bytes >> 20} MiB available")
    return wanted_bytes


def pictures(total_bytes: int, *, value_bytes: int = 4) -> int:
    """How many pictures of 1288x966 fit, for the log."""
    return total_bytes // (PICTURE_PATCHES * PATCH_VALUES * value_bytes)
