"""Which kinds of state a model's layers keep, and whether a later request can begin with it.

Blocks hold keys and values of every position. So what a layer with plain attention or a sliding window computed of a
prompt serves any request that begins alike: a window is a matter of what is read. Other kinds need a rule of their own
before they are reused: a recurrent layer keeps one state and not positions, cross-attention keeps an item's keys.
"""

from __future__ import annotations

from typing import Any

REUSED = frozenset({"full_attention", "sliding_attention"})


def not_reused(config: Any) -> str | None:
    """Why nothing of this model's prompts is reused, by its configuration; None when it is."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - REUSED
    if kinds:
        return f"its layers keep state of other kinds than attention: {', '.join(sorted(kinds))}"
    if getattr(text, "cross_attention_layers", None):
        return "it has cross-attention"
    return None
