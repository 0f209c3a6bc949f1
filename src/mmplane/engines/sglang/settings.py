"""What an operator can set, by environment variables, since SGLang's command line is SGLang's."""

from __future__ import annotations

import os

ARENA_BYTES_VARIABLE = "MMPLANE_SGLANG_ARENA_BYTES"
ARENA_BYTES = 1024**3
"""Of all tokenizer processes together."""


def arena_bytes() -> int:
    """As set, or the default. Raises ValueError when it is no number."""
    text = os.environ.get(ARENA_BYTES_VARIABLE)
    if text is None:
        return ARENA_BYTES
    if not text.isdigit():
        raise ValueError(f"{ARENA_BYTES_VARIABLE} must be a number of bytes")
    return int(text)
