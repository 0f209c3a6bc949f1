"""A server's own books: whether anything is left of any request."""

from __future__ import annotations

from typing import Any


def busy(statistics: dict[str, Any]) -> dict[str, Any]:
    """What is not at rest, by name: empty when everything is. What is kept for later requests is at rest."""
    arena, ranks = statistics["arena"], statistics["ranks"]
    progress = ranks["progress"] or {"running": "not attached"}
    found = {
        "in_flight": statistics["requests"]["in_flight"],
        "leases": arena["leases"],
        "reserved_bytes": statistics["budget"]["reserved_bytes"],
        "waiting_for_budget": statistics["budget"]["waiting"],
        "waiting_for_workers": statistics["workers"]["waiting"],
        "at_ranks": ranks["in_flight"],
        **{f"at_ranks_{name}": progress.get(name) for name in ("running", "waiting", "kv_tokens")},
        **{f"workers_{state}": count for state, count in statistics["workers"]["states"].items() if state != "idle"},
        **{f"region_{index}": _held(region) for index, region in enumerate(arena["regions"])},
    }
    return {name: value for name, value in found.items() if value}


def _held(region: dict[str, int]) -> int:
    return region["length_bytes"] - region["free_bytes"] - region["evictable_bytes"]
