"""What an operator can set, by environment variables, since vLLM's command line is vLLM's."""

from __future__ import annotations

from mmplane.engines.kit import room
from mmplane.engines.kit.settings import some

MODES_VARIABLE = "MMPLANE_VLLM"
MAKE, CARRY = MODES = ("make", "carry")
ARENA_BYTES_VARIABLE = "MMPLANE_VLLM_ARENA_BYTES"


def modes() -> frozenset[str]:
    """What is on: `make`, `carry`, both, or, set and empty, nothing. Raises ValueError."""
    return some(MODES_VARIABLE, MODES, MODES)


def arena_bytes() -> int:
    """Of all API servers together. Raises ValueError for what is no number, or more than is available."""
    return room.arena_bytes(ARENA_BYTES_VARIABLE)
