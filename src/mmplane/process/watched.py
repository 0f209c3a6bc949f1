"""The descriptors that a process waits for, and what to do when one of them is readable."""

from __future__ import annotations

import select
from collections.abc import Callable


class Watched:
    """A fixed set of descriptors. If they change, make a new one: that costs more than a wait."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._acts: dict[int, Callable[[], None]] = {}
        self._last: set[int] = set()

    def watch(self, descriptor: int, act: Callable[[], None], *, last: bool = False) -> None:
        """Call `act` when the descriptor is readable; callbacks that are `last` come after all others."""
        self._poller.register(descriptor, select.POLLIN)
        self._acts[descriptor] = act
        if last:
            self._last.add(descriptor)

    def wait(self, limit_s: float) -> None:
        """Wait until a descriptor is readable, at most `limit_s` seconds, and call all callbacks that are due."""
        events = self._poller.poll(max(0.0, limit_s) * 1000 + 1)
        for descriptor, _ in sorted(events, key=lambda event: event[0] in self._last):
            self._acts[descriptor]()
