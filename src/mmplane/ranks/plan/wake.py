"""Wake: how a thread of this process tells the rank's loop that there is something to look at."""

from __future__ import annotations

import os
from contextlib import suppress


class Wake:
    """A descriptor that is readable after `set` until `clear`. Says that something happened, not what or how often."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For a selector."""
        return self._descriptor

    def set(self) -> None:
        """From any thread."""
        os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """From the loop, before it looks."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
