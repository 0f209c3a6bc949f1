"""Signals as events to read, and the signals that this process was started to ignore."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

BYTES_MAX = 64
_waking: list[int] = []
"""The descriptor that signals write to. Python holds it too, but forgets it in a child: see `unheed`."""


def heed(numbers: Iterable[signal.Signals]) -> int:
    """Return a descriptor that becomes readable when one of these signals arrives; each byte is a signal's number.

    Signals that were ignored when this process started stay ignored: SIGHUP under `nohup`, SIGINT in a script's
    background job.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _waking[:] = [write]
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return read


def unheed() -> None:
    """In a forked child: stop waking its parent's descriptor. From Python 3.12 on, asyncio does half of it."""
    signal.set_wakeup_fd(-1)
    os.close(_waking.pop())
