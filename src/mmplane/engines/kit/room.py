"""The default size of the arena, and how many pictures fit into it."""

from __future__ import annotations

from mmplane.arena.memory import memory_available_bytes
from mmplane.engines.kit.settings import size_bytes

SHARE, BYTES_MAX = 4, 16 * 2**30
"""By default the arena gets this fraction (1 / SHARE) of the available memory, but at most BYTES_MAX."""

PICTURE_PATCHES = (1288 // 14) * (966 // 14)
PATCH_VALUES = 1176
"""Bytes of a picture of 1288x966 in the Qwen family: 29.9 MB as float32."""


def arena_bytes(variable: str) -> int:
    """Return the variable's value, or the default. Raises ValueError for no number or more than is available."""
    available_bytes = memory_available_bytes()
    wanted_bytes = size_bytes(variable, min(available_bytes // SHARE, BYTES_MAX))
    if wanted_bytes > available_bytes:
        raise ValueError(f"{variable}: {wanted_bytes >> 20} MiB wanted, {available_bytes >> 20} MiB available")
    return wanted_bytes


def pictures(total_bytes: int, *, value_bytes: int = 4) -> int:
    """How many pictures of 1288x966 fit, for the log."""
    return total_bytes // (PICTURE_PATCHES * PATCH_VALUES * value_bytes)
