"""Settings from environment variables, because the command line belongs to SGLang."""

from __future__ import annotations

from mmplane.engines.kit import room

ARENA_BYTES_VARIABLE = "MMPLANE_SGLANG_ARENA_BYTES"


def arena_bytes() -> int:
    """Memory for the features of all tokenizer processes: the setting, or a fraction of the available memory.

    Raises ValueError if the setting is not a number, or more than is available.
    """
    return room.arena_bytes(ARENA_BYTES_VARIABLE)
