"""Attention heads, which ranks share: their number must be a multiple of the number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("num_attention_heads", "num_key_value_heads")
"""Names in configurations: of queries, and of keys and values."""
INSIDE = ("text_config", "llm_config", "language_config")
"""Where a configuration has its language model's settings; older ones have them beside the others."""


def heads_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's head counts in the content of `config.json`, if given."""
    nested = settings.get("thinker_config")
    whole = nested if isinstance(nested, Mapping) else settings
    text = next((whole[name] for name in INSIDE if isinstance(whole.get(name), Mapping)), whole)
    return {name: text[name] for name in NAMES if name in text}


def check_heads(heads: Mapping[str, Any], tp: int) -> None:
    """Raise ValueError if `tp` ranks cannot share this many heads."""
    for name in NAMES:
        count = heads.get(name)
        if isinstance(count, int) and count % tp:
            raise ValueError(f"--tp {tp} does not divide its {name} ({count})")
