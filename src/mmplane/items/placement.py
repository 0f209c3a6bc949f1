"""Chooses where an item will be written: a worker and a slot of its region, taken together or not at all.

An item therefore never has a worker without room: while it waits for one, it waits for both.
"""

from __future__ import annotations

from contextlib import suppress

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaFull, StaleSlot
from mmplane.core.errors import ArenaHasNoRoom
from mmplane.core.records import Slot
from mmplane.items.crew import Worker
from mmplane.waiting.lines import Fit


class Placement:
    """A place for an item of `length_bytes` in one of the workers' `regions`; without `patient`, do not wait for room.

    A tenant's items in use take at most `share_bytes` of these regions. Raises ArenaHasNoRoom (413).
    """

    def __init__(
        self, arena: Arena, length_bytes: int, *, regions: range, tenant: str, share_bytes: int, patient: bool
    ) -> None:
        self._regions = regions
        if min(share_bytes, max(map(arena.region_bytes, self._regions), default=0)) < length_bytes:
            raise ArenaHasNoRoom(ever=True)
        self._arena = arena
        self._tenant = tenant
        self._share_bytes = share_bytes
        self._length_bytes = length_bytes
        self._patient = patient
        self._worker: Worker | None = None
        self._slot: Slot | None = None

    @property
    def slot(self) -> Slot:
        """The chosen worker and slot."""
        assert self._slot is not None
        return self._slot

    def take(self, idle: list[Worker]) -> Worker | Fit:
        """Choose one of the idle workers, with a slot, if any region has room. Raises ArenaHasNoRoom (503)."""
        self.give_back()  # a worker that was chosen before, and died before its turn came
        worker = self._roomiest(idle)
        fit = Fit.OWN_SHARE
        if self._arena.held_bytes(self._tenant, self._regions) + self._length_bytes <= self._share_bytes:
            fit = self._reserve(worker)
        if fit is Fit.NOW:
            self._worker = worker
            return worker
        if not self._patient:
            raise ArenaHasNoRoom(ever=False)
        return fit

    def _reserve(self, worker: Worker) -> Fit:
        try:
            self._slot = self._arena.reserve(
                worker.process.index, self._length_bytes, worker.process, tenant=self._tenant
            )
        except ArenaFull:
            return Fit.NO_ROOM
        return Fit.NOW

    def give_back(self) -> None:
        """The worker no longer writes, or never started: the slot is free, like that of a reaped worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(StaleSlot):
                self._arena.abandon(self.slot, worker.process)

    def leave_to(self, worker: Worker) -> None:
        """The worker may still write: the slot becomes free once it has been reaped."""
        assert worker is self._worker
        with suppress(StaleSlot):
            self._arena.discard(self.slot)

    def _roomiest(self, idle: list[Worker]) -> Worker:
        """Return the worker whose region has the most free bytes, among those with room."""

        def merit(worker: Worker) -> tuple[bool, int]:
            region = worker.process.index
            return self._arena.room(region) >= self._length_bytes, self._arena.free_bytes(region)

        return max(idle, key=merit)
