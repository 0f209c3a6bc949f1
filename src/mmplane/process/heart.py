"""Sends heartbeats from a thread while a process's loop computes and cannot send them itself, for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmplane.process.child import BEAT_SECONDS, Control


class Heart:
    """Sends heartbeats for the loop, but only inside `computing`: a loop that is stuck elsewhere stays silent.

    In one block it does so for at most `limit_s` seconds. While nothing is computed, the thread sleeps without waking
    up.
    """

    def __init__(self, control: Control, *, limit_s: float, beat_s: float = BEAT_SECONDS) -> None:
        self._control = control
        self._limit_s = limit_s
        self._beat_s = beat_s
        self._began_s: float | None = None
        self._blocks = 0
        self._needed = threading.Event()
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A block in which the loop's thread computes and sends no heartbeats."""
        self._began_s = time.monotonic()
        self._blocks += 1
        if not self._needed.is_set():
            self._needed.set()
        try:
            yield
        finally:
            self._began_s = None

    def speaks(self, now_s: float) -> bool:
        """Whether the thread sends heartbeats instead of the loop."""
        began_s = self._began_s
        return began_s is not None and now_s - began_s < self._limit_s

    def _run(self) -> None:
        blocks = 0
        while True:
            time.sleep(self._beat_s)
            if self.speaks(time.monotonic()):
                self._control.beat_computing()
            if self._blocks == blocks and self._began_s is None:
                self._needed.clear()
                if self._blocks == blocks:  # otherwise another block has begun and saw the event set
                    self._needed.wait()
            blocks = self._blocks
