"""The colour of each stage, on the status page and in the bench's report."""

from __future__ import annotations

from collections.abc import Mapping

STAGE_COLOURS: Mapping[str, str] = {
    "queue": "#a3a3a3",
    "body": "#525252",
    "fetch": "#38bdf8",
    "key": "#a16207",
    "probe": "#0f766e",
    "prompt": "#a3e635",
    "slot_wait": "#f59e0b",
    "flight": "#fde047",
    "decode": "#2563eb",
    "transform": "#7c3aed",
    "handoff": "#f9a8d4",
    "admission": "#7f1d1d",
    "deliver": "#db2777",
    "encode": "#f4511e",
    "prefill": "#15803d",
    "generate": "#4ade80",
    "reply": "#c4b5fd",
}
"""All colours are distinct; neighbouring stages of a request differ most."""
SUM_COLOUR = "#e5e7eb"
"""Colours of phases that consist of stages, which are drawn on top of them."""
