"""Which kinds of state a model's layers keep, and whether later requests can reuse it.

Blocks hold the keys and values of every position. So what a layer with plain attention or a sliding window has computed
for a prompt serves any request with the same beginning: the window only determines what is read. Other kinds need their
own rule before they can be reused: a recurrent layer keeps one state instead of positions, and cross-attention keeps an
item's keys.
"""

from __future__ import annotations

from typing import Any

REUSED = frozenset({"full_attention", "sliding_attention"})


def not_reused(config: Any) -> str | None:
    """Why this model's prompts cannot be reused, by its configuration; None if they can."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - REUSED
    if kinds:
        return f"the model's layers keep other state than attention does: {', '.join(sorted(kinds))}"
    if getattr(text, "cross_attention_layers", None):
        return "the model has cross-attention"
    return None
