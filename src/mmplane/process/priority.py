"""Who goes first where there is more work than cores: a rank's loop, for which every stream waits, before media."""

from __future__ import annotations

import os
import threading
import time

BEHIND = 5
"""Of Linux's 0 to 19: beside a thread at 0 one at 5 gets a quarter of a core, so that it is late and never starved."""
STEP_SECONDS = 0.001
"""Work between two offers: who gives its core away more often may get nothing done beside a busy one."""


class _Standing(threading.local):
    """Of this thread: whether it has stepped back, and when it last offered its core."""

    behind = False
    offered_s = 0.0


_standing = _Standing()


def step_back() -> None:
    """Put this thread behind others; those that it starts have its priority, but never give way."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)
    _standing.behind = True


def give_way() -> None:
    """In the midst of long work: let who waits for this core have it now, where this thread has stepped back.

    Linux takes a core from a thread that runs when its timer ticks, every 4 ms at 250 Hz, whatever the priorities: a
    loop that wakes up for a request would wait as long. Does nothing in a thread that has not stepped back: that may
    hold the interpreter's lock, for which others would wait with it.
    """
    if _standing.behind and time.perf_counter() - _standing.offered_s > STEP_SECONDS:
        os.sched_yield()
        _standing.offered_s = time.perf_counter()
