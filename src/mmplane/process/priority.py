"""Priorities for machines with more work than cores: a rank's loop, which every stream waits for, goes before media."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BEHIND = 5
"""Steps of niceness. Beside a thread at 0, a thread at 5 gets a quarter of a core: it is late but never starved."""
NICEST = 19
"""Linux has no higher niceness."""
_OURS = os.getpriority(os.PRIO_PROCESS, 0)
"""The niceness that the operator gave us. This module is imported before any thread steps back."""
STEP_SECONDS = 0.001
"""The work between two offers. A thread that offers its core more often may get nothing done beside a busy thread."""
SLACK_SECONDS = 1.0
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30
_libc = ctypes.CDLL(None)


class _Standing(threading.local):
    """State of this thread: whether it has stepped back, and when it last offered its core."""

    behind = False
    offered_s = 0.0


_standing = _Standing()


def step_back() -> None:
    """Lower the priority of this thread. Threads that it starts inherit the priority, but never give way.

    If the system refuses, the thread keeps its priority, which only costs other threads time.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_OURS + BEHIND, NICEST))
    _standing.behind = True


def give_way() -> None:
    """In the middle of long work: let a thread that waits for this core run now, if this thread has stepped back.

    Linux preempts a running thread when its timer ticks, every 4 ms at 250 Hz, whatever the priorities are, so a loop
    that wakes up for a request would wait that long. Does nothing in a thread that has not stepped back, because it may
    hold the interpreter's lock, and others would wait with it.
    """
    if _standing.behind and time.perf_counter() - _standing.offered_s > STEP_SECONDS:
        os.sched_yield()
        _standing.offered_s = time.perf_counter()


@contextmanager
def unhurried() -> Iterator[None]:
    """Threads started inside may wake up `SLACK_SECONDS` late from a timeout, but at once from an event.

    This is for threads of libraries that poll: each of gloo's wakes up a hundred times a second for nothing.
    """
    before_ns = _libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(int(SLACK_SECONDS * 1e9)), 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(before_ns), 0, 0, 0)
