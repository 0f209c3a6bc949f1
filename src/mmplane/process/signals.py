"""Signals as something to read, and those that this process was told to ignore."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

BYTES_MAX = 64


def heed(numbers: Iterable[signal.Signals]) -> int:
    """A descriptor that can be read once one of these signals came; each byte in it is a signal's number.

    What whoever started this process made it ignore stays ignored: SIGHUP under `nohup`, SIGINT in a script's
    background job.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return read


def unheed() -> None:
    """In a forked child: its parent's descriptor is not woken any more."""
    os.close(signal.set_wakeup_fd(-1))
