"""Who goes first where there is more work than cores: a rank's loop, for which every stream waits, before media."""

from __future__ import annotations

import os
import threading

BEHIND = 5
"""Of Linux's 0 to 19: beside a thread at 0 one at 5 gets a quarter of a core, so that it is late and never starved."""


def step_back() -> None:
    """Put this thread, and those that it starts, behind others."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)
