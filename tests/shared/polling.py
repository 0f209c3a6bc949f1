"""Waiting for what another process or thread does. The condition decides; the limit only tells progress from a hang."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

HANG_S = 60.0
POLL_S, POLL_S_MAX = 0.002, 0.1


def until(true: Callable[[], Any], limit_s: float | None = None, what: str = "the condition holds") -> Any:
    """Poll until `true()` gives something, and return it. The default limit is `HANG_S`."""
    limit_s = HANG_S if limit_s is None else limit_s  # read now: tests of mutants make it shorter
    began_s = monotonic()
    while (waited_s := monotonic() - began_s) < limit_s:
        if value := true():
            return value
        pause(waited_s)
    raise AssertionError(f"not within {limit_s} s: {what}")


def pause(waited_s: float) -> None:
    """Between two polls: the longer it has taken, the longer. Most of them ask a server, which needs the CPU itself."""
    sleep(min(max(POLL_S, waited_s / 8), POLL_S_MAX))
