"""What a process waits for: descriptors, and what to do when one of them is readable."""

from __future__ import annotations

import select
from collections.abc import Callable


class Watched:
    """Descriptors that do not change. Make another one when they do: that costs more than to wait."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._acts: dict[int, Callable[[], None]] = {}
        self._last: set[int] = set()

    def watch(self, descriptor: int, act: Callable[[], None], *, last: bool = False) -> None:
        """Call `act` when there is something to read; those that are `last` after all others."""
        self._poller.register(descriptor, select.POLLIN)
        self._acts[descriptor] = act
        if last:
            self._last.add(descriptor)

    def wait(self, limit_s: float) -> None:
        """Until something can be read, at most so long; act on all that can."""
        events = self._poller.poll(max(0.0, limit_s) * 1000 + 1)
        for descriptor, _ in sorted(events, key=lambda event: event[0] in self._last):
            self._acts[descriptor]()
