"""Settings from environment variables, because the command line belongs to vLLM."""

from __future__ import annotations

from mmplane.engines.kit import room
from mmplane.engines.kit.settings import some

MODES_VARIABLE = "MMPLANE_VLLM"
MAKE, CARRY = MODES = ("make", "carry")
ARENA_BYTES_VARIABLE = "MMPLANE_VLLM_ARENA_BYTES"


def modes() -> frozenset[str]:
    """The modes that are on: `make`, `carry`, both, or, if set and empty, none. Raises ValueError."""
    return some(MODES_VARIABLE, MODES, MODES)


def arena_bytes() -> int:
    """Memory of all API servers. Raises ValueError if it is not a number, or more than is available."""
    return room.arena_bytes(ARENA_BYTES_VARIABLE)
