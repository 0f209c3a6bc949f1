"""Wakes the rank's loop from a thread of this process, when there is something to look at."""

from __future__ import annotations

import os
from contextlib import suppress


class Wake:
    """A descriptor that is readable after `set` until `clear`. Says that something happened, not what or how often."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._descriptor

    def set(self) -> None:
        """Wake the loop. Call it from any thread."""
        os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Reset it. The loop calls this before it looks."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
