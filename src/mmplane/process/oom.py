"""Chooses which process the kernel kills first if memory runs out: one that fails a single item, not the supervisor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

SCORES: Mapping[str, int] = {
    "worker": 800,
    "parser": 700,
    "render": 700,
    "porter": 600,
    "frontend": 300,
    "keeper": 300,
    "outpost": 300,
    "node": 300,
    "stand-in": 300,
    "rank": 300,
}
"""What each role adds to its inherited score, out of 1000. The kernel kills the highest score first.

A worker, a parser or a porter is replaced alone. The end of a front end, a keeper, an outpost, a node, a stand-in or
a rank fails every request in flight. The supervisor and the nursery have no entry, because without a supervisor nothing
is replaced.
"""
SCORE_MAX = 1000
SCORE = Path("/proc/self/oom_score_adj")


def volunteer(role: str) -> None:
    """Raise this process's score by its role's value. Any process may raise its own; lowering needs a capability."""
    try:
        SCORE.write_text(str(min(int(SCORE.read_text()) + SCORES.get(role, 0), SCORE_MAX)))
    except OSError as error:  # a sandbox such as gVisor may not have the file
        logging.getLogger("mmplane").debug("cannot set which process the kernel kills first: %s", error)
