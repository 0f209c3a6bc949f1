"""Requests whose inputs are being built, and what all ranks agree on. Pure: the collective is passed in.

    added ──done here──> told ──done on all ranks, all sound──> admitted
      │                    └────done on all ranks, one failed─> failed, on all
      └──abandoned: nobody waits for it, but it stays until all ranks are done

The list is the same on all ranks, because it only changes by messages, which arrive everywhere in the same order, and
by agreement. So the number of waiting requests is the same everywhere, and bounds what waits in a rank's lane.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from mmplane.core.errors import Failure, internal
from mmplane.delivery.delivery import Delivered, Order

PENDING_MAX = 1000
"""Maximum pending requests, as in D1's cache. A further one is refused, on all ranks."""

Agree = Callable[[list[int]], list[int]]
"""Returns the minimum over all ranks at each place. All ranks call it, with equally many numbers."""


@dataclass
class Entry:
    """One pending request. `request` is None once nobody waits for it. `at_once`: its step waits for it."""

    order: Order
    design: str
    future: Future[Delivered]
    request: Any
    at_once: bool = False

    @property
    def failure(self) -> Failure | None:
        """Why this rank has no inputs for it; None if it has them or is not done."""
        return self.future.result().failure if self.future.done() else None


class Pending:
    """One rank's list, in message order."""

    def __init__(self, agree: Agree) -> None:
        self._agree = agree
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Add a request; the same on all ranks, in the same order."""
        self._entries.append(entry)

    def holds(self, request: Any) -> bool:
        """Whether this request is not settled yet."""
        return any(entry.request is request for entry in self._entries)

    def settle(self) -> list[tuple[Entry, Delivered]]:
        """Return all entries that all ranks are done with, in order. No collective if nothing is pending, else one."""
        if not self._entries:
            return []
        done = [entry.future.done() for entry in self._entries]
        sound = [entry.failure is None for entry in self._entries]
        agreed = self._agree([int(each) for each in (*done, *sound)])
        settled, left = [], []
        for entry, ready, fine in zip(self._entries, agreed[: len(done)], agreed[len(done) :], strict=True):
            if ready:
                settled.append((entry, entry.future.result() if fine else _failed(entry)))
            else:
                left.append(entry)
        self._entries = left
        return settled

    def abandon(self, matches: Callable[[Any], bool]) -> list[tuple[Entry, Any]]:
        """Return (entry, request) of matching requests, for which nobody waits any more."""
        found = []
        for entry in self._entries:
            if entry.request is not None and matches(entry.request):
                found.append((entry, entry.request))
                entry.request = None
        return found

    def wait_for_those_at_once(self, limit_s: float) -> None:
        """Wait until this rank is done with everything that must not be overtaken, or the time is up."""
        wait([entry.future for entry in self._entries if entry.at_once], limit_s)

    def wait_for_one(self, limit_s: float) -> None:
        """Wait until this rank is done with one entry, or the time is up."""
        wait([entry.future for entry in self._entries], limit_s, FIRST_COMPLETED)


def _failed(entry: Entry) -> Delivered:
    other = internal("another rank could not build the multimodal inputs of this request").failure()
    return Delivered((), entry.failure or other)
