"""Beats of a process whose loop computes and cannot say anything itself, from a thread, for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmplane.process.child import BEAT_SECONDS, Control


class Heart:
    """Speaks for the loop inside `computing`, and only there: a loop that is stuck elsewhere is silent.

    It speaks for `limit_s` seconds of one block at most. The thread sleeps for good while nothing is computed.
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
        """The loop's thread computes and does not beat."""
        self._began_s = time.monotonic()
        self._blocks += 1
        if not self._needed.is_set():
            self._needed.set()
        try:
            yield
        finally:
            self._began_s = None

    def speaks(self, now_s: float) -> bool:
        """Whether it beats in the place of the loop."""
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
                if self._blocks == blocks:  # else one has begun meanwhile, and saw the event still set
                    self._needed.wait()
            blocks = self._blocks
