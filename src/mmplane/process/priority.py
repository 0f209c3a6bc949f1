"""Who goes first where there is more work than cores: a rank's loop, for which every stream waits, before media."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BEHIND = 5
"""Steps of niceness: beside a thread at 0 one at 5 gets a quarter of a core, so that it is late and never starved."""
NICEST = 19
"""Linux has no higher niceness."""
_OURS = os.getpriority(os.PRIO_PROCESS, 0)
"""The niceness with which the operator started us: this module is imported before any thread steps back."""
STEP_SECONDS = 0.001
"""Work between two offers: who gives its core away more often may get nothing done beside a busy one."""
SLACK_SECONDS = 1.0
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30
_libc = ctypes.CDLL(None)


class _Standing(threading.local):
    """Of this thread: whether it has stepped back, and when it last offered its core."""

    behind = False
    offered_s = 0.0


_standing = _Standing()


def step_back() -> None:
    """Put this thread behind others; those that it starts have its priority, but never give way.

    It keeps its priority where the system refuses another: that costs others time, and nothing else.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_OURS + BEHIND, NICEST))
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


@contextmanager
def unhurried() -> Iterator[None]:
    """Threads that are started inside may wake up `SLACK_SECONDS` late from a timeout, and at once from an event.

    For threads of libraries that poll: each of gloo's wakes up a hundred times a second for nothing.
    """
    before_ns = _libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(int(SLACK_SECONDS * 1e9)), 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(before_ns), 0, 0, 0)
