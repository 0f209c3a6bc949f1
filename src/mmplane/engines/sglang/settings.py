"""What an operator can set, by environment variables, since SGLang's command line is SGLang's."""

from __future__ import annotations

from mmplane.engines.kit import room

ARENA_BYTES_VARIABLE = "MMPLANE_SGLANG_ARENA_BYTES"


def arena_bytes() -> int:
    """For the features of all tokenizer processes together: as set, or a part of the memory that is available.

    Raises ValueError when what is set is no number, or more than is available.
    """
    return room.arena_bytes(ARENA_BYTES_VARIABLE)
