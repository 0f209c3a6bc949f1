"""Where an item will be written: a worker and a slot of its region, taken in the same moment or not at all.

So no item has a worker and then finds no room: while it waits for one it waits for both.
"""

from __future__ import annotations

from contextlib import suppress

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull, StaleSlot
from mmplane.core.errors import ArenaHasNoRoom
from mmplane.core.records import Slot
from mmplane.items.pool import Worker
from mmplane.waiting.lines import Fit


class Placement:
    """For an item of `length_bytes`; who is not `patient` does not wait for room. Raises ArenaHasNoRoom (413)."""

    def __init__(self, arena: Arena, length_bytes: int, *, patient: bool) -> None:
        if all(arena.region_bytes(region) < length_bytes for region in range(1, arena.regions)):
            raise ArenaHasNoRoom(ever=True)
        self._arena = arena
        self._length_bytes = length_bytes
        self._patient = patient
        self._worker: Worker | None = None
        self._slot: Slot | None = None

    @property
    def slot(self) -> Slot:
        """What was taken."""
        assert self._slot is not None
        return self._slot

    def take(self, idle: list[Worker]) -> Worker | Fit:
        """One of the idle workers, with a slot, if there is room with any. Raises ArenaHasNoRoom (503)."""
        worker = self._roomiest(idle)
        try:
            self._slot = self._arena.reserve(worker.process.index, self._length_bytes, worker.process)
        except ArenaFull as full:
            if self._patient:
                return Fit.NO_ROOM
            raise ArenaHasNoRoom(ever=full.ever) from None
        self._worker = worker
        return worker

    def give_back(self) -> None:
        """The worker writes no more: the slot is free, as it is already when the worker has been reaped."""
        assert self._worker is not None
        with suppress(StaleSlot):
            self._arena.abandon(self.slot, self._worker.process)

    def leave_to(self, worker: Worker) -> None:
        """The worker may still write: the slot is free once it has been reaped."""
        assert worker is self._worker
        with suppress(StaleSlot):
            self._arena.discard(self.slot)

    def _roomiest(self, idle: list[Worker]) -> Worker:
        """Of those whose region has room for it, the one with most free bytes."""

        def merit(worker: Worker) -> tuple[bool, int]:
            region = worker.process.index
            return self._arena.room(region) >= self._length_bytes, self._arena.free_bytes(region)

        return max(idle, key=merit)
